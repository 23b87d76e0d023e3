// What the page knows: questions of all runs; of each run its points, cell means and pictures.
const D = JSON.parse(byId("data").textContent);
const columns = new Map(Object.entries(D.columns));
const filters = new Map(Object.entries(D.filters));
const count = D.concept_of.length;

const runs = D.runs.map((run, index) => {
  const { first, n } = run.questions;
  const asked = Array.isArray(run.questions) ? run.questions : Array.from({ length: n }, (_, i) => first + i);
  const points = run.points.map((point, number) => ({
    ...point, number, run: index,
    key: [run.name, point.method, point.point].map(encodeURIComponent).join("/"),
    name: `${point.method}/${point.point}`,
    called: D.runs.length > 1 ? `${point.label} · ${run.name}` : point.label,
  }));
  return {
    ...run, index, asked, points,
    cells: run.cells.map((cells) => new Map(Object.entries(cells))),
    drawn: points.filter((point) => point.number < run.cells.length), // those with cells; others stand in the plane alone
    place: new Map(run.pictured.map((number, place) => [number, place])),
    own: new Map(run.own.map(([name, training, heldOut], number) => [name, { number, training, heldOut }])),
    at: new Map(asked.map((question, place) => [question, place])),
  };
});
const byKey = new Map(runs.flatMap((run) => run.points.map((point) => [point.key, point])));
const byName = new Map(runs.map((run) => [run.name, run]));
const cellMetrics = [...columns.keys()].filter((name) => runs.some((run) => run.cells.some((cells) => cells.has(name))));

const conceptOf = (question) => D.concepts[D.concept_of[question]];
const promptOf = (question) => D.prompts[D.prompt_of[question]];
const textOf = (question) => D.texts[D.text_of[question]];

// Cell means of a point in the order of its run's questions; read when first needed.
const meansRead = new Map();
function means(point, metric) {
  const name = `${point.key} ${metric}`;
  if (!meansRead.has(name)) {
    const text = runs[point.run].cells[point.number]?.get(metric);
    meansRead.set(name, text === undefined ? null
      : Float64Array.from(text.split(","), (unit) => unit === "" ? NaN : Number(unit) / D.scale));
  }
  return meansRead.get(name);
}
const mean = (point, metric, place) => means(point, metric)?.[place] ?? NaN;

// Numbers of the pictures that a cell has.
const imagesRead = new Map();
function images(point, place) {
  const told = runs[point.run].images[point.number];
  if (told === undefined || told === "") return [];
  if (typeof told === "number") return Array.from({ length: told }, (_, number) => number);
  if (!imagesRead.has(point.key)) imagesRead.set(point.key, told.split(","));
  const text = imagesRead.get(point.key)[place] ?? "";
  if (text.startsWith("=")) return text.slice(1).split(".").map(Number);
  return Array.from({ length: Number(text) }, (_, number) => number);
}

const hasPictures = (run) => run.pictured.length > 0;

// ---- statistics, as docs/statistics.md defines them ----

// Class-balanced mean of [concept, prompt, value], with its two-way clustered 95 % interval.
function clustered(rows) {
  const cells = new Uint32Array(D.concepts.length), sums = new Float64Array(D.concepts.length);
  for (const [concept, , value] of rows) { cells[concept] += 1; sums[concept] += value; }
  const there = [...cells.keys()].filter((concept) => cells[concept]);
  const n = there.length;
  if (!n) return { value: NaN, lo: NaN, hi: NaN, concepts: 0, cells: 0 };
  const value = there.reduce((sum, concept) => sum + sums[concept] / cells[concept], 0) / n;
  if (n === 1) return { value, lo: NaN, hi: NaN, concepts: 1, cells: rows.length };
  const ofConcept = new Float64Array(D.concepts.length), ofPrompt = new Float64Array(D.prompts.length);
  let both = 0;
  for (const [concept, prompt, one] of rows) {
    const part = (one - value) / (n * cells[concept]);
    ofConcept[concept] += part;
    ofPrompt[prompt] += part;
    both += part * part;
  }
  const squares = (parts) => parts.reduce((sum, part) => sum + part * part, 0);
  const vc = squares(ofConcept), vp = squares(ofPrompt);
  const half = D.t[n] * Math.sqrt(n / (n - 1) * Math.max(vc, vc + vp - both));
  return { value, lo: value - half, hi: value + half, concepts: n, cells: rows.length };
}

// [concept, prompt, value] of the cells that pass; `value` is a function of the place of a question in its run.
function rowsOf(run, passes, value) {
  const rows = [];
  run.asked.forEach((question, place) => {
    if (!passes(question)) return;
    const one = value(place);
    if (!Number.isNaN(one)) rows.push([D.concept_of[question], D.prompt_of[question], one]);
  });
  return rows;
}

// Of text_sim and harmonic, which are ratios of means: a value for each concept, their mean, and no interval.
function ratios(point, column, passes) {
  const run = runs[point.run];
  const floor = run.points.find((one) => one.method === D.floor && one.kind === "floor");
  if (!floor) return { value: NaN };
  const averages = (rows) => {
    const sums = new Map();
    for (const [concept, , value] of rows) {
      const one = sums.get(concept) ?? [0, 0];
      sums.set(concept, [one[0] + value, one[1] + 1]);
    }
    return new Map([...sums].map(([concept, [sum, n]]) => [concept, sum / n]));
  };
  const shared = (mine, other) => averages(rowsOf(run, passes, (place) =>
    Number.isNaN(mean(other, "text_sim_raw", place)) ? NaN : mean(mine, "text_sim_raw", place)));
  const [above, below] = [shared(point, floor), shared(floor, point)];
  const image = averages(rowsOf(run, passes, (place) => mean(point, "image_sim", place)));
  const values = [];
  for (const [concept, raw] of above) {
    const text = raw / below.get(concept);
    const likeness = image.get(concept) ?? NaN;
    const value = column === "text_sim" ? text : likeness > 0 && text > 0 ? 2 * likeness * text / (likeness + text) : 0 * (likeness + text);
    if (!Number.isNaN(value)) values.push(value);
  }
  return { value: values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : NaN };
}

// A column of a point: the table's own number, or over the questions that pass.
function columnOf(point, column, passes) {
  const told = point.table[column];
  if (!passes || columns.get(column).fixed) return told ? { value: told[0], lo: told[1], hi: told[2] } : { value: NaN };
  if (point.number >= runs[point.run].cells.length) return { value: NaN };
  if (column === "text_sim" || column === "harmonic") return ratios(point, column, passes);
  return clustered(rowsOf(runs[point.run], passes, (place) => mean(point, column, place)));
}
