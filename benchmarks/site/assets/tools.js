// Small pieces. Text that comes from runs is only ever set as text.
const byId = (id) => document.getElementById(id);

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function draw(tag, attributes) { // a part of an SVG
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function option(value, text) {
  const node = make("option", "", text);
  node.value = value;
  return node;
}

function link(href, className, text) {
  const node = make("a", className, text);
  node.href = href;
  return node;
}

const known = (value) => value !== undefined && value !== null && !Number.isNaN(value);

// A score as the tables write it; large numbers, such as bytes and seconds, without decimals that say nothing.
function number(value, sign = false) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  const text = size >= 1000 ? Math.round(value).toLocaleString("en") : value.toFixed(size >= 100 ? 1 : 3);
  return (sign && value > 0 ? "+" : "") + text.replace("-", "−");
}

const between = (one) => known(one.lo) && known(one.hi) ? ` [${number(one.lo)}, ${number(one.hi)}]` : "";
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function ink(node, colour) {
  node.style.color = `light-dark(${colour}, color-mix(in srgb, ${colour} 50%, white))`;
  return node;
}

// A method's marker as the figures have it. The shapes are constants of this program, the colour is set as a value.
function marker(point, size = 14) {
  const svg = draw("svg", { class: "mark", viewBox: "0 0 14 14", width: size, height: size, "aria-hidden": "true" });
  svg.append(shape(point));
  return svg;
}

const shapes = new Map();
function shape(point) {
  if (!shapes.has(point.marker)) {
    const text = `<svg xmlns="http://www.w3.org/2000/svg">${D.shapes[point.marker]}</svg>`;
    shapes.set(point.marker, new DOMParser().parseFromString(text, "image/svg+xml").documentElement.firstElementChild);
  }
  const node = document.importNode(shapes.get(point.marker), true);
  node.setAttribute("fill", point.fill ? point.colour : "none");
  node.setAttribute("stroke", point.colour);
  node.setAttribute("stroke-width", point.fill ? "0" : "1.6");
  return node;
}

function slowly(act, wait = 150) { // once typing stops
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(act, wait); };
}
