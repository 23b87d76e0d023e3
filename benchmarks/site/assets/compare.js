// Two operating points, of one run or two, cell by cell: pairs of the same concept, prompt and text.
function fillCompare() {
  for (const [id, name] of [["pick-a", "a"], ["pick-b", "b"]]) {
    fillPoints(id);
    byId(id).addEventListener("change", (event) => change({ [name]: event.target.value }));
  }
  byId("swap").addEventListener("click", () => { const [a, b] = pair(); change({ a: b?.key, b: a?.key }); });
  byId("pick-score").append(...cellMetrics.map((name) => option(name, columns.get(name).title)));
  byId("pick-score").addEventListener("change", (event) => change({ metric: event.target.value }));
  byId("pick-sort").addEventListener("change", (event) => change({ sort: event.target.value || "none" }));
  return new Rows(byId("compare-list"), "Paired cells", fillPair);
}

// What was chosen; at first, in the first run, the best of the first method against the best of the next one.
function pair() {
  const shown = shownRuns()[0]?.drawn.filter((point) => point.kind === "") ?? [];
  const best = new Map();
  for (const point of shown) {
    const old = best.get(point.method);
    if (!old || (point.table.harmonic?.[0] ?? -1) > (old.table.harmonic?.[0] ?? -1)) best.set(point.method, point);
  }
  const all = runs.flatMap((run) => run.drawn);
  const first = drawnPoint(settings.get("a")) ?? [...best.values()][0] ?? all[0];
  const second = drawnPoint(settings.get("b")) ?? [...best.values(), ...shown, ...all].find((point) => point !== first) ?? first;
  return [first, second];
}

function compareItems(a, b, metric, sort) {
  const passes = passing(), [mine, theirs] = [runs[a.run], runs[b.run]];
  const items = [];
  mine.asked.forEach((question, place) => {
    const other = theirs.at.get(question);
    if (other === undefined || (passes && !passes(question))) return;
    const [x, y] = [mean(a, metric, place), mean(b, metric, other)];
    items.push({ question, place, other, a, b, x, y, difference: x - y, key: `${place} ${other}` });
  });
  const size = { up: (item) => item.difference, down: (item) => -item.difference, far: (item) => -Math.abs(item.difference) }[sort];
  if (size) items.sort((one, two) => known(one.difference) && known(two.difference) ? size(one) - size(two) : known(two.difference) - known(one.difference));
  return items;
}

let widest = 1; // the largest difference of the list, for its bars

function drawCompare(list) {
  const [a, b] = pair();
  const metric = metricNow();
  if (!a || !metric) { byId("compare-sum").textContent = "There are no cells to compare."; list.show([], 100); return []; }
  const apart = apartOf(runs[a.run], runs[b.run]);
  const sort = apart ? "" : settings.get("sort") ?? "up";
  Object.assign(byId("pick-a"), { value: a.key });
  Object.assign(byId("pick-b"), { value: b.key });
  byId("pick-score").value = metric;
  byId("pick-sort").value = sort === "none" ? "" : sort;
  const items = compareItems(a, b, metric, sort);
  if (apart) for (const item of items) item.difference = NaN;
  const paired = items.filter((item) => known(item.difference));
  widest = Math.max(...paired.map((item) => Math.abs(item.difference)), 1e-9);
  byId("compare-sum").textContent = apart ? `${apart} So no difference is told; the pictures are side by side.` : comparison(a, b, metric, paired);
  const notes = [];
  const way = columns.get(metric).better;
  if (way < 0) notes.push("Less is better here, so an A that is behind by the number is the better one.");
  if (items.length > paired.length && !apart) notes.push(`${plural(items.length - paired.length, "prompt")} without this score in both: they come last.`);
  if (!items.length) notes.push("No concept and prompt with the same text is in both, with these filters.");
  if (![a, b].some((point) => hasPictures(runs[point.run])) && items.length) notes.push("There are scores and no pictures in the folder.");
  const seen = [a, b].some((point) => hasPictures(runs[point.run]));
  const narrow = window.matchMedia("(max-width: 640px)").matches;
  const n = list.show(items, seen ? (narrow ? 250 : 206) : narrow ? 136 : 92);
  if (n < items.length) notes.push(`The first ${n.toLocaleString("en")} are shown: a filter brings the others.`);
  byId("compare-note").textContent = notes.join(" ");
  return items.map((item) => ({ run: runs[a.run], question: item.question, place: item.place }));
}

function comparison(a, b, metric, paired) {
  const found = clustered(paired.map((item) => [D.concept_of[item.question], D.prompt_of[item.question], item.difference]));
  if (!found.cells) return "No cell has this score in both.";
  const ahead = clustered(paired.map((item) => [D.concept_of[item.question], D.prompt_of[item.question], Math.abs(item.difference) < 1e-9 ? 0.5 : item.difference > 0 ? 1 : 0]));
  const interval = known(found.lo) ? ` [${number(found.lo, true)}, ${number(found.hi, true)}]` : "";
  return `A less B in ${columns.get(metric).title.toLowerCase()}: ${number(found.value, true)}${interval}, over ${plural(found.concepts, "concept")} and ${plural(found.cells, "cell")}. A is higher in ${Math.round(100 * ahead.value)} % of them.`;
}

function fillPair(node, item) {
  const { question, a, b } = item;
  const head = make("p", "head");
  const told = known(item.difference) ? `, difference ${number(item.difference, true)}` : "";
  const title = link(cellAddress(runs[a.run], question), "", textOf(question));
  title.setAttribute("aria-label", `${textOf(question)}: all methods${told}`);
  head.append(title, make("span", "which", `${conceptOf(question).replaceAll("_", " ")} · ${promptOf(question)}`));
  const strip = make("div", "pair");
  strip.append(side("A", a, item.place, item.x), differenceBar(item.difference), side("B", b, item.other, item.y));
  node.append(head, strip);
}

function side(letter, point, place, value) {
  const run = runs[point.run], numbers = images(point, place);
  const box = link(cellAddress(run, run.asked[place], point), "cellbox wide-box");
  if (numbers.length) box.append(thumb(point, place, numbers[0]));
  else if (hasPictures(run)) box.append(make("span", "none", "no picture"));
  const words = make("span", "words");
  const name = make("span", "name");
  name.append(make("b", "", letter), marker(point, 11), make("span", "", point.called));
  words.append(name, make("span", "score", number(value)));
  box.append(words);
  return box;
}

// To the right and blue where A is higher, to the left and orange where B is; the sign says it, too.
function differenceBar(value) {
  const box = make("div", "difference");
  box.append(make("strong", "", number(value, true)));
  const svg = draw("svg", { viewBox: "0 0 120 12", class: "diff", "aria-hidden": "true" });
  svg.append(draw("line", { x1: 60, x2: 60, y1: 0, y2: 12 }));
  if (known(value)) {
    const length = Math.min(58, 58 * Math.abs(value) / widest);
    svg.append(draw("rect", { class: value >= 0 ? "ahead" : "behind", x: value >= 0 ? 60 : 60 - length, y: 2, width: length, height: 8 }));
  }
  box.append(svg);
  return box;
}
