// What is shown: runs, operating points, and questions that pass.
const OWN_FILTER = "f."; // before the name of a column that a suite brings, so that no other setting is meant
const titles = { scenario: "Scenario", difficulty: "Difficulty" };

function fillFilters() {
  const names = [...new Set(D.concept_of)].map((number) => D.concepts[number]);
  byId("pick-concept").append(...names.map((name) => option(name, name.replaceAll("_", " "))));
  for (const [name, { values }] of filters) {
    const label = make("label", "", `${titles[name] ?? name.replaceAll("_", " ")} `);
    const select = make("select");
    select.dataset.filter = name;
    select.append(option("", "all"), ...values.map((value) => option(value, value)));
    label.append(select);
    byId("more-filters").append(label);
    select.addEventListener("change", () => change({ [OWN_FILTER + name]: select.value }));
  }
  byId("pick-concept").addEventListener("change", (event) => change({ concept: event.target.value }));
  byId("pick-words").addEventListener("input", slowly(() => change({ words: byId("pick-words").value.trim() })));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => {
    const own = Object.fromEntries([...filters.keys()].map((name) => [OWN_FILTER + name, ""]));
    change({ concept: "", words: "", points: "", runs: "", ...own });
  });
  checks("pick-runs", "runs", runs.map((run) => ({ name: run.name, label: run.name })));
  byId("pick-runs").hidden = runs.length < 2;
  const points = new Map(runs.flatMap((run) => run.drawn.map((point) => [point.name, point])));
  checks("pick-points", "points", [...points].map(([name, point]) => ({ name, label: point.label, point })), [
    ["one of each", () => oneOfEach()],
  ]);
}

// The point of each method with the highest harmonic mean.
function oneOfEach() {
  const best = new Map();
  for (const run of runs) {
    for (const point of run.drawn) {
      const value = point.table.harmonic?.[0] ?? -Infinity;
      if (!best.has(point.method) || value > best.get(point.method).value) best.set(point.method, { value, name: point.name });
    }
  }
  return [...best.values()].map((one) => one.name);
}

// A box for each; nothing in the address means all of them.
function checks(id, setting, items, more = []) {
  const box = byId(id).querySelector(".checks");
  const buttons = make("p", "line");
  for (const [text, names] of [["all", () => []], ...more]) {
    const button = make("button", "", text);
    button.type = "button";
    button.addEventListener("click", () => change({ [setting]: listText(names()) }));
    buttons.append(button);
  }
  box.append(buttons);
  for (const item of items) {
    const label = make("label");
    const check = make("input");
    Object.assign(check, { type: "checkbox", value: item.name });
    label.append(check, ...(item.point ? [marker(item.point)] : []), make("span", "", item.label));
    box.append(label);
    check.addEventListener("change", () => {
      const on = [...box.querySelectorAll("input:checked")].map((one) => one.value);
      change({ [setting]: on.length === items.length || !on.length ? "" : listText(on) });
    });
  }
}

function tellFilters() {
  byId("pick-concept").value = settings.get("concept") ?? "";
  if (document.activeElement !== byId("pick-words")) byId("pick-words").value = settings.get("words") ?? "";
  for (const select of document.querySelectorAll("[data-filter]")) select.value = settings.get(OWN_FILTER + select.dataset.filter) ?? "";
  for (const [id, setting, title] of [["pick-runs", "runs", "Runs"], ["pick-points", "points", "Methods"]]) {
    const on = new Set(listOf(setting));
    const boxes = [...byId(id).querySelectorAll("input")];
    boxes.forEach((box) => { box.checked = !on.size || on.has(box.value); });
    const n = boxes.filter((box) => box.checked).length;
    byId(id).querySelector("summary").textContent = n === boxes.length ? `${title}: all ${n}` : `${title}: ${n} of ${boxes.length}`;
  }
}

const shownRuns = () => { const on = new Set(listOf("runs")); return runs.filter((run) => !on.size || on.has(run.name)); };
const shownPoints = (run) => { const on = new Set(listOf("points")); return run.drawn.filter((point) => !on.size || on.has(point.name)); };

// A function of a question, or nothing where all of them pass.
function passing() {
  const tests = [];
  const concept = settings.get("concept");
  if (concept) tests.push((question) => conceptOf(question) === concept);
  const words = (settings.get("words") ?? "").toLowerCase();
  if (words) {
    const has = D.texts.map((text) => text.toLowerCase().includes(words));
    tests.push((question) => has[D.text_of[question]] || promptOf(question).toLowerCase() === words);
  }
  for (const [name, { values, of }] of filters) {
    const wanted = settings.get(OWN_FILTER + name);
    if (wanted) tests.push((question) => values[of[question]] === wanted);
  }
  if (!tests.length) return null;
  const passed = Uint8Array.from({ length: count }, (_, question) => tests.every((test) => test(question)));
  return (question) => passed[question] === 1;
}
