// Shows what the calibration tells, and sends what is asked for. Nothing is loaded from elsewhere.

const LOST_AFTER = 9000; // ms without a word from the server, which sends one every 3 s
const OLD_AFTER = 3000; // ms without a new picture
const LOG_LENGTH = 200;
const BARS = [
  ["x", "X", "left to right"],
  ["y", "Y", "top to bottom"],
  ["size", "Size", "near and far"],
  ["skew", "Skew", "tilts"],
];
const BUSY = {
  start: "Starting", stop: "Stopping", add_view: "Adding the view", calibrate: "Calibrating", save: "Saving",
  load_samples: "Loading samples", reset: "Resetting", commit: "Committing",
};

const by = (id) => document.getElementById(id);
let status = null;
let connected = false;
let source = null;
let heard = 0;
let pictureAt = 0;
let pictures = null; // what stops the loop that fetches them
const running = new Set();

// The token came in the address and is kept in a cookie: it need not stay in the browser's history.
if (location.search) history.replaceState(null, "", location.pathname);

function text(id, value) {
  const element = by(id);
  if (element.textContent !== value) element.textContent = value; // what is read aloud is told only when it changes
}

function capital(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function percent(value) {
  return `${Math.round(100 * Math.min(1, Math.max(0, value || 0)))} %`;
}

function pixels(value, digits) {
  return value === null || value === undefined ? "–" : `${value.toFixed(digits)} px`;
}

// ---- what is shown ----

function show() {
  if (!status) return;
  const s = status;
  const size = s.width ? `${s.width} × ${s.height}` : "";
  text("subject", [s.frame_id, s.board, size].filter(Boolean).join(" · "));
  text("state", s.state);
  by("state").className = `pill ${s.state}`;
  if (s.width && s.height) by("main").style.setProperty("--aspect", String(s.width / s.height));
  showSeen(s);
  showGuide(s);
  showVerdict(s);
  showFigures(s);
  showButtons();
}

function showSeen(s) {
  const looking = s.state === "collecting";
  by("seen").hidden = by("looked").hidden = !looking;
  text("seen", s.seen ? "board seen" : "no board seen");
  by("seen").className = `chip ${s.seen ? "good" : ""}`;
  by("looked").hidden = !looking || !s.looked || s.looked === "no board";
  text("looked", s.looked);
  by("looked").className = `chip ${s.looked === "kept" ? "good" : "fair"}`;
}

function guide(s) {
  if (s.state === "solving") return ["Hold on", "The final solution is being made"];
  if (s.state === "collecting") return ["Next view", s.next_view || "Show the whole board to the camera"];
  if (s.state === "done" && s.committed) return ["Done", "The camera has its new calibration"];
  if (s.state === "done") return ["Done", s.verdict === "good" ? "Good. Commit gives it to the camera" : "Look at the verdict"];
  if (s.views) return ["Stopped", "Press Start to go on"];
  return ["To begin", "Press Start, then show the board to the camera"];
}

function showGuide(s) {
  const [label, words] = guide(s);
  text("guide-label", label);
  text("next", capital(words));
  by("guide").classList.toggle("long", words.length > 60);
  by("guide").dataset.state = s.state;
  const gain = s.state === "collecting" && s.next_view && s.next_gain > 0;
  text("gain", gain ? `uncertainty −${percent(s.next_gain)}` : "");
}

function showVerdict(s) {
  const level = { good: "good", usable: "fair" }[s.verdict] || "bad";
  by("verdict-card").dataset.level = s.model ? level : "none";
  text("verdict", capital(s.verdict));
  const items = s.reasons.map((reason, i) => [reason, s.remedies[i] || ""]);
  if (!s.model) items.push(["there is no solution yet", s.views ? "add views, each of another place and tilt" : ""]);
  else if (s.verdict === "good" && !items.length) items.push(["every figure is within its threshold", ""]);
  const wanted = JSON.stringify(items);
  const list = by("reasons");
  if (list.dataset.shown === wanted) return;
  list.dataset.shown = wanted;
  list.replaceChildren(...items.map(([reason, remedy]) => {
    const item = document.createElement("li");
    item.append(capital(reason));
    if (remedy) {
      const advice = document.createElement("span");
      advice.textContent = capital(remedy);
      item.append(advice);
    }
    return item;
  }));
}

function showFigures(s) {
  text("views", String(s.views));
  text("rms", pixels(s.rms, 3));
  text("uncertainty_centre", pixels(s.uncertainty_centre, 3));
  text("uncertainty_corners", pixels(s.uncertainty_corners, 3));
  text("model", s.model ? `Lens model ${s.model}. Uncertainty: one sigma of where a direction is projected to.` : "No solution yet.");
  for (const [key] of BARS) {
    const value = Math.min(1, Math.max(0, s[key] || 0));
    by(`bar-${key}`).style.width = `${100 * value}%`;
    by(`bar-${key}`).parentElement.setAttribute("aria-valuenow", String(Math.round(100 * value)));
    text(`value-${key}`, percent(value));
  }
  const grid = by("grid");
  let seen = 0;
  s.cells.flat().forEach((cell, i) => {
    seen += cell;
    grid.children[i].classList.toggle("seen", cell);
  });
  grid.setAttribute("aria-label", `Corners were seen in ${seen} of 100 cells of the image`);
  text("coverage", `${percent(s.coverage)} of the image`);
  text("archive", s.archive ? `Images and corners are kept in ${s.archive}` : "");
}

// ---- buttons ----

/** Why a command makes no sense now; "" where it does. */
function objection(name) {
  if (!connected || !status) return "There is no connection";
  if (running.has(name)) return `${BUSY[name]} …`;
  const s = status;
  const solution = Boolean(s.model);
  if (s.state === "solving" && name !== "save") return "The final solution is being made: wait for its end";
  if (name === "add_view" && s.state !== "collecting") return "Press Start first: images are not looked at";
  if (name === "add_view" && !s.seen) return "The newest image does not show the board";
  if (name === "calibrate" && !s.views) return "There are no views yet";
  if (name === "save" && !s.views) return "There is nothing to save yet";
  if (name === "reset" && !s.views && !solution) return "There is nothing to forget";
  if (name === "commit" && !solution) return "There is no solution yet";
  if (name === "commit" && s.committed) return "The camera has this solution already";
  return "";
}

const TITLES = {
  start: "Look for the board and keep the views that tell something",
  stop: "Stop looking; what was kept stays",
  add_view: "Keep the newest image's view, whatever it adds",
  calibrate: "Make the final solution of the views that there are",
  save: "Write images, corners, calibration files and the report into a folder",
  load_samples: "Take the views of a saved folder, or of a folder of images",
  reset: "Forget the views and the solution",
  commit: "Give the solution to the camera",
};

function showButtons() {
  const toggle = by("toggle");
  const collecting = status && status.state === "collecting";
  toggle.dataset.command = collecting ? "stop" : "start";
  text("toggle", collecting ? "Stop" : "Start");
  const finished = Boolean(status && status.state === "done" && !status.committed);
  toggle.classList.toggle("primary", !finished); // the one that comes next stands out
  by("commit").classList.toggle("primary", finished);
  for (const button of document.querySelectorAll("[data-command]")) {
    const name = button.dataset.command;
    const why = objection(name);
    // Not `disabled`: a button that loses the focus when the board leaves the image, or tells no reason when it is
    // touched, is of no use to a keyboard or a phone.
    button.setAttribute("aria-disabled", String(Boolean(why)));
    button.classList.toggle("busy", running.has(name));
    button.title = why || TITLES[name];
  }
}

async function press(name) {
  const why = objection(name);
  if (why) return notice(why, "info");
  let argument = "";
  if (name === "save") {
    argument = await ask("Save the calibration", "Images, corners, calibration files and the report are written there. "
      + "Leave it empty for the node's own archive.", "Save", true);
  } else if (name === "load_samples") {
    argument = await ask("Load samples", "A folder that Save has written, or one of images. "
      + "Leave it empty for the node's own archive.", "Load", true);
  } else if (name === "reset") {
    argument = await ask("Forget everything?", `${status.views} views and their solution are forgotten. `
      + "What has been archived stays there.", "Reset", false);
  } else if (name === "commit" && status.verdict === "not yet") {
    argument = await ask("Commit it all the same?", "The verdict is “not yet”: measurements with this calibration "
      + "may be wrong by more than its figures tell.", "Commit", false);
  }
  if (argument === null) return undefined;
  return send(name, argument);
}

async function send(name, argument) {
  running.add(name);
  notice(`${BUSY[name]} …`, "info");
  showButtons();
  let outcome;
  try {
    const response = await fetch(`command/${name}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ argument }),
    });
    outcome = await response.json();
  } catch (error) {
    outcome = { success: false, message: `${BUSY[name]}: no answer came, so whether it was done is not known (${error.message})` };
  }
  running.delete(name);
  notice(outcome.message || (outcome.success ? "Done" : "It was not done"), outcome.success ? "good" : "bad");
  if (!outcome.success || outcome.message !== (status && status.message)) {
    log(outcome.message, outcome.success ? "" : "bad");
  }
  showButtons();
}

let fading = 0;
function notice(message, kind) {
  clearTimeout(fading);
  const element = by("notice");
  element.hidden = false;
  element.className = kind;
  text("notice-text", capital(message));
  if (kind !== "bad") fading = setTimeout(() => { element.hidden = true; }, 8000);
}

let lastLogged = "";
function log(message, kind) {
  if (!message || message === lastLogged) return;
  lastLogged = message;
  const item = document.createElement("li");
  if (kind) item.className = kind;
  const time = document.createElement("time");
  time.textContent = new Date().toLocaleTimeString([], { hour12: false });
  item.append(time, capital(message));
  const list = by("log");
  list.prepend(item);
  while (list.children.length > LOG_LENGTH) list.lastChild.remove();
}

/** Resolves to the folder ("" where none was asked for) or, where it was called off, to null. */
function ask(title, words, action, folder) {
  const dialog = by("dialog");
  text("dialog-title", title);
  text("dialog-text", words);
  text("confirm", action);
  by("confirm").className = action === "Reset" ? "danger" : "primary";
  by("dialog-field").hidden = !folder;
  by("folder").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  (folder ? by("folder") : by("cancel")).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes" ? by("folder").value.trim() : null);
    }, { once: true });
  });
}

// ---- connection ----

function setConnected(now, why) {
  connected = now;
  text("connection", now ? "live" : "connection lost");
  by("connection").className = `pill ${now ? "good" : "bad"}`;
  document.body.classList.toggle("disconnected", !now);
  by("lost").hidden = now;
  text("lost", now ? "" : why || "The connection is lost. What is shown is old; trying again …");
  showButtons();
}

function connect() {
  if (source) source.close();
  heard = Date.now();
  source = new EventSource("events");
  source.addEventListener("status", (event) => {
    heard = Date.now();
    status = JSON.parse(event.data);
    if (!connected) setConnected(true);
    log(status.message, "");
    show();
  });
  source.addEventListener("alive", () => {
    heard = Date.now();
    if (!connected && status) setConnected(true);
  });
  source.onerror = () => lose();
}

async function lose() {
  setConnected(false);
  try {
    const response = await fetch("status.json");
    if (response.status === 401) {
      setConnected(false, "The token is another one now: reload the page with the address that the node logged.");
    }
  } catch { /* not there: what is shown says so already */ }
}

function watch() {
  if (document.hidden) return;
  // A browser gives up by itself after an answer that is no stream, and does not notice a network that went away.
  if (source && source.readyState === EventSource.CLOSED) connect();
  else if (Date.now() - heard > LOST_AFTER) {
    setConnected(false);
    connect();
  }
  const old = Date.now() - pictureAt;
  const preview = by("preview");
  preview.classList.toggle("old", !connected || old > OLD_AFTER);
  const words = pictureAt ? `No new picture for ${Math.round(old / 1000)} s` : "Waiting for the first picture";
  text("no-preview", words);
  by("no-preview").hidden = pictureAt > 0 && old <= OLD_AFTER;
}

/** Fetches one picture after another: on a slow line the newest comes, and none waits in between. */
async function fetchPictures(signal) {
  let version = "0";
  while (!signal.aborted) {
    try {
      const response = await fetch(`preview.jpg?after=${version}`, { signal });
      if (response.status === 200) {
        version = response.headers.get("X-Version") || "0";
        await showPicture(await response.blob());
      } else if (response.status !== 204) {
        await new Promise((resolve) => { setTimeout(resolve, 2000); });
      }
    } catch {
      if (!signal.aborted) await new Promise((resolve) => { setTimeout(resolve, 1000); });
    }
  }
}

async function showPicture(blob) {
  const preview = by("preview");
  const address = URL.createObjectURL(blob);
  const before = preview.src;
  preview.src = address;
  try {
    await preview.decode();
    preview.hidden = false;
    pictureAt = Date.now();
  } finally {
    if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  }
}

/** Nothing is sent to a page that is not looked at. */
function look() {
  if (pictures) pictures.abort();
  pictures = null;
  if (document.hidden) {
    if (source) source.close();
    source = null;
    return;
  }
  connect();
  pictures = new AbortController();
  fetchPictures(pictures.signal);
}

function build() {
  for (const [key, name, meaning] of BARS) {
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.title = meaning;
    const label = document.createElement("span");
    label.textContent = name;
    const track = document.createElement("div");
    track.className = "track";
    track.setAttribute("role", "meter");
    track.setAttribute("aria-label", `${name}: ${meaning}, percent`);
    track.setAttribute("aria-valuemin", "0");
    track.setAttribute("aria-valuemax", "100");
    const fill = document.createElement("div");
    fill.id = `bar-${key}`;
    track.append(fill);
    const value = document.createElement("span");
    value.id = `value-${key}`;
    value.className = "value";
    bar.append(label, track, value);
    by("bars").append(bar);
  }
  for (let i = 0; i < 100; i += 1) by("grid").append(document.createElement("i"));
  for (const button of document.querySelectorAll("[data-command]")) {
    button.addEventListener("click", () => press(button.dataset.command));
  }
  by("notice-close").addEventListener("click", () => { by("notice").hidden = true; });
  by("cancel").addEventListener("click", () => by("dialog").close(""));
  document.addEventListener("visibilitychange", look);
  showButtons();
  setInterval(watch, 500);
  look();
}

build();
