// Keys and buttons, and the first step.
document.addEventListener("keydown", event => {
  if (el("trial").hidden || document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toUpperCase();
  const images = trial().images.length;
  document.body.classList.add("keyed");
  if (LETTERS.slice(0, images).includes(key)) mark(LETTERS.indexOf(key));
  else if (["1", "2", "3"].includes(key)) give(current, Number(key), true);
  else if (key === "ENTER" && !event.repeat && event.target.tagName !== "BUTTON") next();
  else return;
  event.preventDefault();
});

function size(value) {
  document.documentElement.dataset.size = value;
  for (const button of document.querySelectorAll(".sizes button")) button.setAttribute("aria-pressed", String(button.dataset.size === value));
}
for (const button of document.querySelectorAll(".sizes button"))
  button.onclick = () => { size(button.dataset.size); keep.write(study.study, "size", button.dataset.size); };
size(keep.read(study.study, "size") || "1");

document.querySelector("#large button").onclick = () => el("large").close();
for (const button of document.querySelectorAll("#sure button")) button.onclick = () => el("sure").close(button.value);
el("which").onsubmit = event => { event.preventDefault(); begin(); };
el("begin").onclick = begin;
el("start").onclick = render;
el("onward").onclick = render;
el("next").onclick = next;
el("back").onclick = () => { state.at -= 1; render(); };
el("stop").onclick = async () => { if (await sure("Stop here? Your answers so far are kept and can be handed in.", "Stop")) finish(); };
el("resume").onclick = render;
el("send").onclick = send;
el("download").onclick = download;
el("another").onclick = () => { keep.write(study.study, "last", null); history.replaceState(null, "", location.pathname + location.search); location.reload(); };
el("forget").onclick = async () => {
  if (!(await sure("Delete your answers from this browser? Hand them in first, or they are lost.", "Delete"))) return;
  keep.remove(study.study, `session-${state.session}`);
  keep.remove(study.study, "last");
  el("outcome").textContent = "Your answers have been deleted from this browser.";
  for (const id of ["download", "forget", "send", "resume"]) el(id).hidden = true;
};
window.addEventListener("hashchange", () => location.reload());
arrive();
