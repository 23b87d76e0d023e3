// The beginning, the views, and the keyboard.
const VIEWS = ["plane", "pictures", "compare", "runs"];
fillFilters();
fillPlane();
const pictureList = fillPictures();
const compareList = fillCompare();
byId("lead").textContent = `${plural(runs.length, "run")} · ${plural(new Set(runs.flatMap((run) => run.drawn.map((point) => point.method))).size, "method")} · ${plural(new Set(D.concept_of).size, "concept")} · ${plural(new Set(runs.flatMap((run) => run.asked.map((question) => D.prompt_of[question]))).size, "prompt")}${runs.some(hasPictures) ? "" : " · no pictures: scores alone"}`;

let before = ""; // the view before this one

function show() {
  const view = path.length ? "cell" : VIEWS.includes(settings.get("view")) ? settings.get("view") : "plane";
  byId("trouble").hidden = true;
  tellFilters();
  for (const name of [...VIEWS, "cell"]) byId(`view-${name}`).hidden = name !== view;
  byId("filters").hidden = view === "runs" || view === "cell";
  for (const one of document.querySelectorAll("[data-view]")) {
    one.href = addressOf([], { view: one.dataset.view });
    if (one.dataset.view === view) one.setAttribute("aria-current", "page"); else one.removeAttribute("aria-current");
  }
  document.title = document.title.replace(/^.*· Perfbench/, `${document.querySelector("h1").textContent} · Perfbench`);
  if (view === "plane") told(drawPlane(), "point");
  if (view === "pictures") { listed = drawPictures(pictureList); told(listed.length, "row"); }
  if (view === "compare") { listed = drawCompare(compareList); told(listed.length, "pair"); }
  if (view === "cell") drawCell();
  if (view === "runs") drawRuns();
  const list = { pictures: pictureList, compare: compareList }[view];
  if (before === "cell" && list) list.focus(list.at); // back to where we were
  before = view;
}

const told = (n, word) => { byId("count").textContent = plural(n, word); };

window.addEventListener("hashchange", () => { if (location.hash === "#main") return; readAddress(); show(); });
readAddress();
show();

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.tagName === "BUTTON") dialog.close(); });
}
byId("help-open").addEventListener("click", () => byId("help").showModal());
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); byId("main").focus(); });
document.addEventListener("click", (event) => { // an open list of boxes closes when something else is clicked
  for (const one of document.querySelectorAll("#filters details[open]")) if (!one.contains(event.target)) one.open = false;
});

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const open = document.querySelector("#filters details[open]");
  if (event.key === "Escape" && open) { open.open = false; open.querySelector("summary").focus(); return; }
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (/^[1-4]$/.test(event.key)) { location.hash = addressOf([], { view: VIEWS[event.key - 1] }); return; }
  if (event.key === "?") { byId("help").showModal(); return; }
  if (event.key === "/" && !byId("filters").hidden) { event.preventDefault(); byId("pick-words").focus(); return; }
  if (!path.length) {
    if (event.key === "ArrowDown" && !event.target.closest("summary")) {
      const list = settings.get("view") === "pictures" ? pictureList : settings.get("view") === "compare" ? compareList : null;
      if (list && event.target === document.body) { event.preventDefault(); list.focus(list.at); }
    }
    return;
  }
  const step = { ArrowLeft: "cell-before", ArrowRight: "cell-after" }[event.key];
  if (step && !byId(step).hidden) { event.preventDefault(); location.hash = byId(step).getAttribute("href"); }
  if (event.key === "Escape") location.hash = byId("cell-back").getAttribute("href");
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const cards = [...document.querySelectorAll(".permalink")];
    const at = cards.indexOf(document.activeElement.closest?.(".method")?.querySelector(".permalink"));
    const next = cards[Math.min(Math.max(at + (event.key === "ArrowDown" ? 1 : -1), 0), cards.length - 1)];
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.closest(".method").scrollIntoView({ block: "nearest" });
    history.replaceState(null, "", next.getAttribute("href"));
    readAddress();
    document.querySelectorAll(".method.chosen").forEach((one) => { one.classList.remove("chosen"); one.querySelector(".permalink").removeAttribute("aria-current"); });
    next.closest(".method").classList.add("chosen");
    next.setAttribute("aria-current", "true");
  }
});
