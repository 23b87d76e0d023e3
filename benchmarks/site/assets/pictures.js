// Thumbnails out of sheets, and the list of cells: a row a prompt of a run, a place a method.
const SHEET = 16; // thumbnails side by side in a sheet
const OWN_ACROSS = 8; // the same of a concept's own pictures

// One thumbnail: the sheet as a picture in a box that shows a part of it.
function part(src, column, row, across, alt) {
  const box = make("span", D.tile <= 128 ? "thumb pixels" : "thumb");
  const image = make("img");
  Object.assign(image, { src, alt, decoding: "async", draggable: false });
  image.style.width = `${across * 100}%`;
  image.style.left = `${-column * 100}%`;
  image.style.top = `${-row * 100}%`;
  image.addEventListener("error", () => box.replaceChildren(make("span", "none", "picture not here")));
  box.append(image);
  return box;
}

function thumb(point, place, number) {
  const run = runs[point.run], seat = run.place.get(point.number);
  const across = Math.min(SHEET, run.pictured.length);
  return part(`strips/${run.index}/${place}-${number}.webp`, seat % across, Math.floor(seat / across), across,
    `${point.called}: ${textOf(run.asked[place])}, picture ${number + 1}`);
}

function ownThumb(run, concept, number, heldOut) {
  return part(`own/${run.index}/${run.own.get(concept).number}.webp`, number, heldOut ? 1 : 0, OWN_ACROSS,
    `${heldOut ? "held-out" : "training"} picture ${number + 1} of ${concept.replaceAll("_", " ")}`);
}

const shortTitle = (metric) => ({ image_sim: "image", text_sim_raw: "text" })[metric] ?? columns.get(metric)?.title ?? metric;
const twoScores = ["image_sim", "text_sim_raw"];

function scoreWords(point, place) {
  return twoScores.map((metric) => [metric, mean(point, metric, place)]).filter(([, value]) => known(value)).map(([metric, value]) => `${shortTitle(metric)} ${number(value)}`);
}

function fillPictures() {
  byId("pick-order").addEventListener("change", (event) => change({ order: event.target.value }));
  byId("pick-metric").append(...cellMetrics.map((name) => option(name, columns.get(name).title)));
  byId("pick-metric").addEventListener("change", (event) => change({ metric: event.target.value, order: settings.get("order") || "up" }));
  fillPoints("pick-by");
  byId("pick-by").addEventListener("change", (event) => change({ by: event.target.value, order: settings.get("order") || "up" }));
  return new Rows(byId("pictures-list"), "Cells", fillRow);
}

function fillPoints(id) { // of all runs, in groups
  for (const run of runs) {
    const group = make("optgroup");
    group.label = run.name;
    group.append(...run.drawn.map((point) => option(point.key, point.label)));
    byId(id).append(...(runs.length > 1 ? [group] : group.children));
  }
}

const metricNow = () => cellMetrics.includes(settings.get("metric")) ? settings.get("metric") : cellMetrics.includes("image_sim") ? "image_sim" : cellMetrics[0];
const drawnPoint = (key) => { const point = byKey.get(key); return point && point.number < runs[point.run].cells.length ? point : null; };

// Rows of the list in its order: the questions that pass, of all shown runs.
function pictureItems() {
  const passes = passing();
  const items = [];
  for (const run of shownRuns()) {
    const points = shownPoints(run);
    if (!points.length) continue;
    run.asked.forEach((question, place) => {
      if (!passes || passes(question)) items.push({ run, question, place, key: `${run.index} ${place}` });
    });
  }
  const by = byPoint(), metric = metricNow(), order = settings.get("order");
  if (order && by) {
    const value = (item) => item.run.index === by.run ? mean(by, metric, item.place) : NaN;
    for (const item of items) item.value = value(item);
    const way = order === "down" ? -1 : 1;
    items.sort((a, b) => known(a.value) && known(b.value) ? way * (a.value - b.value) : known(b.value) - known(a.value));
  }
  return items;
}

const byPoint = () => drawnPoint(settings.get("by")) ?? shownRuns().flatMap(shownPoints)[0];

function drawPictures(list) {
  const items = pictureItems(), by = byPoint();
  byId("pick-order").value = settings.get("order") ?? "";
  byId("pick-metric").value = metricNow() ?? "";
  if (by) byId("pick-by").value = by.key;
  const without = shownRuns().filter((run) => !hasPictures(run));
  const seen = items.some((item) => hasPictures(item.run));
  const narrow = window.matchMedia("(max-width: 640px)").matches;
  const n = list.show(items, seen ? (narrow ? 252 : 256) : narrow ? 156 : 136);
  const notes = [];
  if (without.length) notes.push(`${without.map((run) => run.name).join(", ")}: scores and no pictures in the folder.`);
  if (n < items.length) notes.push(`The first ${n.toLocaleString("en")} are shown: a filter brings the others.`);
  if (!items.length) notes.push("Nothing passes these filters.");
  byId("pictures-note").textContent = notes.join(" ");
  return items;
}

function fillRow(node, { run, question, place }) {
  const head = make("p", "head");
  const concept = conceptOf(question);
  const title = link(cellAddress(run, question), "", textOf(question));
  title.setAttribute("aria-label", `${textOf(question)}: all methods`);
  head.append(title, make("span", "which", `${concept.replaceAll("_", " ")} · ${promptOf(question)}${runs.length > 1 ? ` · ${run.name}` : ""}`));
  const strip = make("div", "strip-row");
  if (run.own.get(concept)?.training && hasPictures(run)) {
    const own = make("span", "cellbox own-one");
    own.append(ownThumb(run, concept, 0, false), make("span", "name", "training"));
    strip.append(own);
  }
  for (const point of shownPoints(run)) strip.append(cellBox(run, question, place, point));
  node.append(head, strip);
}

function cellBox(run, question, place, point) {
  const box = link(cellAddress(run, question, point), "cellbox");
  const numbers = images(point, place);
  const scores = scoreWords(point, place);
  if (numbers.length) box.append(thumb(point, place, numbers[0]));
  else if (hasPictures(run)) box.append(make("span", "none", "no picture"));
  const name = make("span", "name");
  name.append(marker(point, 11), make("span", "", point.label));
  box.append(name, ...(scores.length ? scores : ["no score"]).map((text) => make("span", "score", text)));
  return box;
}
