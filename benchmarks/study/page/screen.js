// One screen: pictures, numbers, the way to the next one.
const trial = () => trials[state.at];
const given = () => state.answers[trial().id] || trial().images.map(() => null);
const complete = item => (state.answers[item.id] || [null]).every(value => value !== null);

function picture(file, name, extra = {}) {
  const image = make("img", { src: `images/${file}`, alt: name, draggable: false });
  const button = make("button", { type: "button", className: "picture", ...extra }, image);
  button.setAttribute("aria-label", `${name}, enlarge`);
  image.onerror = () => {
    button.replaceChildren(make("p", { className: "broken", textContent: "This picture could not be loaded. Tap to try again." }));
    button.onclick = () => render();
  };
  button.onclick = () => {
    const large = document.querySelector("#large img");
    large.src = image.src;
    large.alt = name;
    el("large").showModal();
  };
  return button;
}

function rankButton(place, value) {
  const input = make("input", { type: "radio", name: `place-${place}`, value });
  input.setAttribute("aria-label", `${value}, ${WORDS[value]}`);
  input.onchange = () => give(place, value, false);
  return make("label", { className: "rank" }, input, make("b", { textContent: value }), make("span", { textContent: WORDS[value] }));
}

function card(place) {
  const letter = LETTERS[place];
  const ranks = make("div", { className: "ranks" }, ...[3, 2, 1].map(value => rankButton(place, value)));
  const group = make("fieldset", {}, make("legend", { textContent: `Picture ${letter}` }), ranks);
  const node = make("div", { className: "choice", id: `choice-${place}` }, picture(trial().images[place], `Picture ${letter}`), group);
  node.addEventListener("focusin", () => mark(place));
  return node;
}

function render() {
  state.phase = "trials";
  save();
  show("trial");
  const item = trial();
  el("count").textContent = `Screen ${state.at + 1} of ${trials.length}`;
  el("progress").max = trials.length;
  el("progress").value = state.at;
  el("text").textContent = item.text;
  el("references").hidden = !item.references.length;
  el("references").replaceChildren(...item.references.map((file, i) =>
    make("figure", {}, picture(file, `The object, picture ${i + 1}`), make("figcaption", { textContent: i ? "again" : "Object" }))));
  el("ask").textContent = ranking
    ? "3 for the best fit, 1 for the worst."
    : "How real does each picture look?";
  el("choices").replaceChildren(...item.images.map((_, place) => card(place)));
  el("said").textContent = "";
  el("missing").textContent = "";
  mark(0);
  refresh();
  const ahead = trials[state.at + 1];
  if (ahead) for (const file of [...ahead.references, ...ahead.images]) new Image().src = `images/${file}`;
}

function refresh() {
  const values = given();
  values.forEach((value, place) => {
    for (const input of document.getElementsByName(`place-${place}`)) input.checked = Number(input.value) === value;
    el(`choice-${place}`).classList.toggle("done", value !== null);
  });
  el("next").setAttribute("aria-disabled", String(!complete(trial())));
  el("next").textContent = state.at + 1 === trials.length ? "Finish" : "Next";
  el("back").hidden = state.at === 0 || state.at === study.qualify; // the gate is passed once
}

function mark(place) {
  current = place;
  trial().images.forEach((_, i) => el(`choice-${i}`).classList.toggle("current", i === place));
}

// Ranks are unique: a number taken from another picture goes there in exchange, and the last one left is filled in.
function give(place, value, byKey) {
  const values = [...given()];
  if (ranking) {
    const holder = values.indexOf(value);
    if (holder >= 0 && holder !== place) values[holder] = values[place];
  }
  values[place] = value;
  const blank = values.map((v, i) => (v === null ? i : -1)).filter(i => i >= 0);
  if (ranking && blank.length === 1) values[blank[0]] = [3, 2, 1].find(v => !values.includes(v));
  state.answers[trial().id] = values;
  save();
  refresh();
  el("missing").textContent = "";
  el("said").textContent = values.map((v, i) => (v === null ? "" : `${LETTERS[i]}: ${v}, ${WORDS[v]}.`)).join(" ");
  if (byKey) {
    const next = values.findIndex(v => v === null);
    if (next >= 0) mark(next);
    else mark(Math.min(place + 1, values.length - 1));
  } else mark(place);
}

function passes() {
  const right = trials.slice(0, study.qualify).filter(item => {
    const values = state.answers[item.id];
    const top = Math.max(...values);
    const place = values.indexOf(top);
    return place === values.lastIndexOf(top) && sha256(`${item.id}|${place}`) === item.check;
  });
  return right.length >= study.pass_mark;
}

function next() {
  if (!complete(trial())) {
    el("missing").textContent = "Each picture needs a number first.";
    el("said").textContent = "Each picture needs a number first.";
    return;
  }
  tellBegun();
  const gate = state.at + 1 === study.qualify;
  state.failed = gate && !passes(); // settled before anything is saved: a reload cannot slip past the gate
  if (state.failed || state.at + 1 === trials.length) return finish();
  state.at += 1;
  save();
  if (gate) show("passed");
  else render();
}
