// Where we are: `#run/concept/prompt/method/point?settings`. A reload shows the same; so does the address sent to others.
const settings = new URLSearchParams();
let path = [];
const plain = (text) => { try { return decodeURIComponent(text); } catch { return text; } };

function readAddress() {
  const [before, after = ""] = location.hash.slice(1).split("?", 2);
  path = before === "main" ? path : before.split("/").filter(Boolean).map(plain);
  if (before === "main") return;
  for (const name of [...settings.keys()]) settings.delete(name);
  for (const [name, value] of new URLSearchParams(after)) settings.set(name, value);
}

function addressOf(parts, changes = {}) {
  const told = new URLSearchParams(settings);
  for (const [name, value] of Object.entries(changes)) if (value) told.set(name, value); else told.delete(name);
  const query = told.toString();
  return `#${parts.map(encodeURIComponent).join("/")}${query ? `?${query}` : ""}`;
}

// The address of a prompt, or of one method's cell of it.
function cellAddress(run, question, point) {
  const parts = [run.name, conceptOf(question), promptOf(question)];
  return addressOf(point ? [...parts, point.method, point.point] : parts);
}

// Settings change what is shown, and the address with it, without a step in the history.
function change(changes) {
  for (const [name, value] of Object.entries(changes)) if (value) settings.set(name, value); else settings.delete(name);
  history.replaceState(null, "", addressOf(path));
  show();
}

const listOf = (name) => (settings.get(name) ?? "").split(",").filter(Boolean).map(plain);
const listText = (values) => values.map(encodeURIComponent).join(",");
