// One prompt of a run: training and held-out pictures, and what every method drew of it.
let listed = []; // what the last list showed, in its order: the way of Previous and Next

function drawCell() {
  const [name, concept, prompt, method, point] = path;
  const run = byName.get(name);
  const place = run ? run.asked.findIndex((question) => conceptOf(question) === concept && promptOf(question) === prompt) : -1;
  if (place < 0) return refuse(run ? `${name} has no prompt ${prompt} of ${concept}.` : `There is no run ${name} here.`);
  const question = run.asked[place];
  const chosen = method ? run.drawn.find((one) => one.method === method && one.point === (point ?? one.point)) : null;
  if (method && !chosen) refuse(`${name} has no ${method}${point ? ` at ${point}` : ""}.`);
  byId("cell-text").textContent = textOf(question);
  const told = [...filters].map(([column, { values, of }]) => values[of[question]] === undefined ? "" : `${(titles[column] ?? column).toLowerCase()} ${values[of[question]]}`).filter(Boolean);
  byId("cell-which").textContent = [`concept ${concept.replaceAll("_", " ")}`, `prompt ${prompt}`, ...told, `run ${name}`].join(" · ");
  walk(run, question);
  drawOwn(run, concept);
  byId("cell-note").textContent = hasPictures(run) ? "" : `${name}: scores and no pictures in the folder.`;
  const cards = run.drawn.filter((one) => images(one, place).length || cellMetrics.some((metric) => known(mean(one, metric, place))))
    .map((one) => methodCard(run, question, place, one, one === chosen));
  byId("cell-methods").replaceChildren(...cards);
  if (!cards.length) byId("cell-note").textContent = "No method has a score or a picture of this prompt.";
  document.title = `${textOf(question)} · Perfbench explorer`;
  const target = byId("cell-methods").querySelector(".chosen .permalink") ?? byId("cell-text");
  target.focus({ preventScroll: true });
  if (chosen) target.closest(".method").scrollIntoView({ block: "nearest", behavior: "instant" });
  else window.scrollTo({ top: 0, behavior: "instant" });
}

function refuse(sentence) {
  byId("trouble").textContent = sentence;
  byId("trouble").hidden = false;
  byId("cell-text").textContent = "";
  for (const id of ["cell-own", "cell-methods"]) byId(id).replaceChildren();
  for (const id of ["cell-which", "cell-note", "cell-place"]) byId(id).textContent = "";
}

function walk(run, question) {
  if (!listed.length) listed = settings.get("view") === "compare" ? drawCompare(compareList) : pictureItems();
  const at = listed.findIndex((item) => item.run === run && item.question === question);
  const [, , , method, point] = path;
  const chosen = method && run.drawn.find((one) => one.method === method && one.point === point);
  for (const [id, item] of [["cell-before", listed[at - 1]], ["cell-after", at < 0 ? undefined : listed[at + 1]]]) {
    byId(id).hidden = !item;
    if (item) byId(id).href = cellAddress(item.run, item.question, item.run === run ? chosen : null);
  }
  byId("cell-place").textContent = at < 0 ? "" : `${(at + 1).toLocaleString("en")} of ${listed.length.toLocaleString("en")}`;
  byId("cell-back").href = addressOf([]);
  byId("cell-back").textContent = settings.get("view") === "compare" ? "Back to the comparison" : settings.get("view") === "plane" ? "Back to the plane" : "Back to the cells";
}

function drawOwn(run, concept) {
  const { training, heldOut } = run.own.get(concept) ?? { training: 0, heldOut: 0 };
  const sides = [["Training pictures", training, false], ["Held-out pictures, which no method saw", heldOut, true]].map(([title, n, held]) => {
    const figure = make("figure");
    figure.append(make("figcaption", "", title));
    const box = make("div", "thumbs");
    for (let number = 0; number < n; number++) box.append(ownThumb(run, concept, number, held));
    figure.append(n ? box : make("p", "note", "None are in this run's folder."));
    return figure;
  });
  byId("cell-own").replaceChildren(...sides);
}

function methodCard(run, question, place, point, chosen) {
  const card = make("article", chosen ? "method chosen" : "method");
  const head = make("h3");
  const address = link(cellAddress(run, question, point), "permalink");
  address.append(marker(point), ink(make("span", "", point.label), point.ink));
  if (chosen) address.setAttribute("aria-current", "true");
  head.append(address);
  const numbers = images(point, place);
  const box = make("div", "thumbs");
  for (const number of numbers) {
    const open = make("button", "open");
    open.type = "button";
    open.title = "Enlarge";
    const one = thumb(point, place, number);
    one.querySelector("img").loading = "lazy";
    open.append(one);
    open.addEventListener("click", () => enlarge(run, question, place, point, number));
    box.append(open);
  }
  const scores = make("dl", "scores");
  for (const metric of cellMetrics) {
    const value = mean(point, metric, place);
    if (known(value)) scores.append(make("dt", "", columns.get(metric).title), make("dd", "", number(value)));
  }
  card.append(head, ...(numbers.length ? [box] : hasPictures(run) ? [make("p", "note", "No picture here.")] : []), scores);
  return card;
}

function enlarge(run, question, place, point, number) {
  const dialog = byId("light");
  const small = thumb(point, place, number);
  const alt = small.querySelector("img").alt;
  if (D.full) {
    const image = make("img", D.tile <= 128 ? "pixels" : "");
    Object.assign(image, { src: `pictures/${run.index}/${point.number}/${place}-${number}.png`, alt });
    image.addEventListener("error", () => image.replaceWith(small));
    dialog.querySelector(".big").replaceChildren(image);
  } else dialog.querySelector(".big").replaceChildren(small);
  dialog.querySelector("figcaption").replaceChildren(make("div", "", textOf(question)), make("div", "note", `${point.called} · picture ${number + 1}${scoreWords(point, place).map((one) => ` · ${one}`).join("")}`));
  dialog.showModal();
}

function drawRuns() {
  byId("runs").replaceChildren(...runs.map((run) => {
    const box = make("article", "method");
    const facts = make("dl", "facts");
    const pictures = run.pictured.length ? `by ${plural(run.pictured.length, "operating point")}` : "none in its folder";
    const told = [["Operating points", String(run.drawn.length)], ["Prompts of concepts", run.asked.length.toLocaleString("en")], ["Pictures", pictures],
      ["Scored by", run.scorer], ["Backbone", run.backbone], ["Finished", run.finished || "not yet"], ["Command", run.commands.join("\n")]];
    for (const [name, value] of told) facts.append(make("dt", "", name), make("dd", "", value));
    const apart = runs.map((other) => apartOf(run, other)).filter(Boolean);
    box.append(make("h2", "", run.name), facts, ...apart.map((why) => make("p", "note", why)));
    return box;
  }));
}
