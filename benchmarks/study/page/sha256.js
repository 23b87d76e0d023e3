// SHA-256 of a short text, hexadecimal. The browser's own is missing on plain http, where a study on one network runs.
function sha256(text) {
  const first = n => { // the fractional bits of the roots of the first primes
    const primes = [];
    for (let p = 2; primes.length < n; p++) if (primes.every(q => p % q)) primes.push(p);
    return primes;
  };
  const bits = x => ((x - Math.floor(x)) * 2 ** 32) | 0;
  const K = first(64).map(p => bits(Math.cbrt(p)));
  const H = first(8).map(p => bits(Math.sqrt(p)));
  const bytes = [...unescape(encodeURIComponent(text))].map(c => c.charCodeAt(0));
  const length = bytes.length * 8;
  bytes.push(0x80);
  while (bytes.length % 64 !== 56) bytes.push(0);
  bytes.push(0, 0, 0, 0, length >>> 24 & 255, length >>> 16 & 255, length >>> 8 & 255, length & 255);
  const turn = (x, n) => x >>> n | x << 32 - n;
  for (let at = 0; at < bytes.length; at += 64) {
    const w = [];
    for (let i = 0; i < 16; i++) w[i] = bytes[at + 4 * i] << 24 | bytes[at + 4 * i + 1] << 16 | bytes[at + 4 * i + 2] << 8 | bytes[at + 4 * i + 3];
    for (let i = 16; i < 64; i++) {
      const s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >>> 3;
      const s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >>> 10;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1 | 0;
    }
    let [a, b, c, d, e, f, g, h] = H;
    for (let i = 0; i < 64; i++) {
      const t1 = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (e & f ^ ~e & g) + K[i] + w[i] | 0;
      const t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + (a & b ^ a & c ^ b & c) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, d + t1 | 0, c, b, a, t1 + t2 | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((x, i) => { H[i] = H[i] + x | 0; });
  }
  return H.map(x => (x >>> 0).toString(16).padStart(8, "0")).join("");
}
