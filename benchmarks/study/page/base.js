// What every part uses. `study` is the exported page's data; `state` is all that is kept of a session.
const study = JSON.parse(document.getElementById("study").textContent);
const ranking = study.kind === "ranking";
const LETTERS = ["A", "B", "C"];
const WORDS = ranking ? { 3: "best", 2: "middle", 1: "worst" } : { 3: "looks real", 2: "partly", 1: "not real" };
const el = id => document.getElementById(id);
let state = null; // {rater, session, ticket, at, phase, failed, answers: {trial: [number or null]}}
let trials = [];
let current = 0; // the picture that a digit key goes to
let collector = false; // whether `perfbench study serve` answers

function make(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}

function show(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
  window.scrollTo(0, 0);
  const heading = document.querySelector(`#${id} h1`);
  if (heading) heading.focus({ preventScroll: true });
}

function fill(values) {
  for (const [name, value] of Object.entries(values))
    for (const span of document.querySelectorAll(`[data-fill="${name}"]`)) span.textContent = value;
}

function warn(text) {
  el("warning").textContent = text;
  el("warning").hidden = !text;
}

function save() {
  keep.write(study.study, `session-${state.session}`, state);
  keep.write(study.study, "last", state.session);
  if (!keep.lasting()) warn("This browser does not let the page keep your answers: do not close or reload it before you have handed them in.");
}

function rater() {
  let id = keep.read(study.study, "rater");
  if (!id) keep.write(study.study, "rater", (id = randomNumber()));
  return id;
}
