// Which session this is, where it was left, and how its answers are handed in.
async function ask(path, options) {
  if (!/^https?:$/.test(location.protocol)) return null;
  try {
    const reply = await fetch(path, options);
    return { status: reply.status, body: await reply.json() };
  } catch (error) {
    return null; // no server behind the page, or one that knows nothing of studies
  }
}

function linked() {
  const found = location.hash.match(/(?:^#|&)s=(\d+)/);
  return found ? Number(found[1]) : null;
}

function open(session, ticket) {
  const kept = keep.read(study.study, `session-${session}`);
  state = kept || { rater: rater(), session, ticket: null, at: 0, phase: "guide", failed: false, answers: {} };
  if (ticket) state.ticket = ticket;
  trials = study.sessions[session - 1];
  fill({ screens: trials.length, rest: trials.length - study.qualify, minutes: Math.max(2, Math.round(trials.length * (ranking ? 0.3 : 0.2))) });
}

const exists = session => Number.isInteger(session) && session >= 1 && session <= study.sessions.length;

async function arrive() {
  fill({ qualify: study.qualify, mark: study.pass_mark, sessions: study.sessions.length, screens: study.sessions[0].length, minutes: "" });
  for (const item of document.querySelectorAll(".qualifying")) item.hidden = !study.qualify;
  const last = keep.read(study.study, "last");
  const kept = exists(last) && keep.read(study.study, `session-${last}`);
  const given = linked();
  const reply = await ask(`api/session?rater=${rater()}`);
  collector = Boolean(reply && reply.body && reply.body.study === study.study);
  if (kept && (kept.failed || ((!given || given === last) && kept.phase !== "handed"))) return proceed(last, kept.ticket);
  if (collector) return reply.status === 200 ? welcome(reply.body.session, reply.body.ticket) : nothingLeft(reply.body.status);
  if (exists(given)) return keep.read(study.study, `session-${given}`) ? proceed(given) : welcome(given);
  if (given) warn(`There is no session ${given}.`);
  el("which").hidden = false;
  fill({ minutes: Math.max(2, Math.round(trialsOf(1).length * (ranking ? 0.3 : 0.2))) });
  show("welcome");
}

const trialsOf = session => study.sessions[session - 1];

function welcome(session, ticket) {
  open(session, ticket);
  show("welcome");
}

function proceed(session, ticket) {
  open(session, ticket);
  if (state.phase === "guide") show("welcome");
  else if (state.phase === "trials") render();
  else finish();
}

function nothingLeft(text) {
  warn(text);
  for (const section of document.querySelectorAll("main > section")) section.hidden = true;
}

function begin() {
  if (!state) {
    const number = Number(el("number").value.trim());
    if (!exists(number)) {
      el("number").focus();
      return warn(`Please type a session number from 1 to ${study.sessions.length}.`);
    }
    warn("");
    if (keep.read(study.study, `session-${number}`)) return proceed(number);
    open(number);
  }
  show("guide");
}


function answersFile() {
  const answered = trials.filter(complete).map(item => ({ trial: item.id, ranks: state.answers[item.id] }));
  return JSON.stringify({ schema: "perfbench-study-answers/1", study: study.study, rater: state.rater, session: state.session, ticket: state.ticket, answers: answered });
}

function tellBegun() { // until then the server may give this session to another rater
  if (!collector || !state.ticket || state.told) return;
  state.told = true;
  ask("api/begun", { method: "POST", headers: { "Content-Type": "application/json" }, body: answersFile() });
}

async function finish() {
  const all = trials.every(complete);
  if (state.phase !== "handed") state.phase = "done";
  save();
  show("end");
  const n = trials.filter(complete).length;
  el("thanks").textContent = state.failed ? "That is all" : "Thank you";
  el("outcome").textContent = state.failed
    ? "Thank you for your time. Too few of the first screens were right, so this session ends here. Please hand in what there is, so that it is counted."
    : all ? `All ${n} screens are answered.` : `You have answered ${n} of ${trials.length} screens. That helps too.`;
  el("resume").hidden = all || state.failed || state.phase === "handed";
  el("another").hidden = true;
  el("send").hidden = true;
  if (collector && state.phase !== "handed" && (all || state.failed)) await send();
  else if (collector && state.phase !== "handed") { el("send").hidden = false; el("send").textContent = "Send what I have"; }
  else if (state.phase === "handed") el("another").hidden = !collector || state.failed;
}

async function send() {
  el("sent").className = "sent";
  el("sent").textContent = "Sending …";
  const reply = await ask("api/answers", { method: "POST", headers: { "Content-Type": "application/json" }, body: answersFile() });
  const there = reply && (reply.status === 201 || reply.status === 409);
  if (there) {
    state.phase = "handed";
    save();
    el("resume").hidden = true;
    el("another").hidden = state.failed;
  }
  el("sent").classList.toggle("bad", !there);
  el("sent").textContent = there
    ? "Your answers have arrived. You can close this page."
    : `Your answers could not be sent${reply ? ` (${reply.body.status})` : ""}. They are still here: try again, or download them.`;
  el("send").hidden = there;
  el("send").textContent = "Send again";
}

function download() {
  const link = make("a", { href: URL.createObjectURL(new Blob([answersFile()], { type: "application/json" })) });
  link.download = `answers-${study.study}-session-${state.session}-${state.rater.slice(0, 8)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  el("sent").className = "sent";
  if (state.phase !== "handed") el("sent").textContent = `Saved as ${link.download}, where your downloads go.`;
}

function sure(text, yes) {
  const box = el("sure");
  box.querySelector("p").textContent = text;
  box.querySelector("button").textContent = yes;
  box.returnValue = "no"; // Escape leaves the value of the last time
  box.showModal();
  return new Promise(done => box.addEventListener("close", () => done(box.returnValue === "yes"), { once: true }));
}
