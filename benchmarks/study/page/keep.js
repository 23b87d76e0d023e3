// What outlives a reload: answers by session and the rater's random number, in this browser's own storage.
const keep = (() => {
  const memory = {};
  let lasting = true;
  try {
    localStorage.setItem("study-probe", "1");
    localStorage.removeItem("study-probe");
  } catch (error) {
    lasting = false; // private windows and strict settings: the page still works, but a reload starts again
  }
  const name = (study, what) => `study:${study}:${what}`;
  return {
    lasting: () => lasting,
    read(study, what) {
      const text = lasting ? localStorage.getItem(name(study, what)) : memory[name(study, what)];
      try {
        return text ? JSON.parse(text) : null;
      } catch (error) {
        return null;
      }
    },
    write(study, what, value) {
      memory[name(study, what)] = JSON.stringify(value);
      if (!lasting) return;
      try {
        localStorage.setItem(name(study, what), memory[name(study, what)]);
      } catch (error) {
        lasting = false;
      }
    },
    remove(study, what) {
      delete memory[name(study, what)];
      if (lasting) localStorage.removeItem(name(study, what));
    },
  };
})();

function randomNumber() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map(b => b.toString(16).padStart(2, "0")).join("");
}
