// The page: one list, one stream, one drawer. What has only changed is not drawn anew.
import { MARKS, NAMES, Problem, STATES, ago, ask, askToken, by, clock, copier, counted, dialog, el, ends, line, lineOf, listen, now,
  number, painted, plain, put, seconds, setClock, since, span, takeToken, theme } from "/page/parts.js";

const V1 = "/api/v1";
const MOST_ROWS = 1000;
const MOST_LINES = 5000;
const MANY = 60; // with more changes at once, the list is loaded instead
const view = { states: [], q: "", sort: "-updated_at", job: "" };
const rows = new Map(); // id -> {job, tr}
const chosen = new Set();
let full = false, queue = "", standing = null, workers = [], figures = null;
let next = null, marked = "", lastPicked = "", moved = new Map();
let keysOn = read("queuectl-keys") !== "off";

function read(name) { try { return localStorage.getItem(name); } catch { return null; } }
function write(name, value) { try { localStorage.setItem(name, value); } catch { /* for this page only */ } }

// -- messages

function tell(text, command, wrong, undo) {
  const box = el("div", { className: wrong ? "wrong" : "" },
    el("div", { className: "what" }, el("span", { dir: "auto" }, plain(text)), command && el("code", {}, command)),
    undo && el("button", { onclick: () => { box.remove(); undo(); } }, "Undo"), command && copier(command),
    el("button", { "aria-label": "Dismiss", onclick: () => box.remove() }, "×"));
  const told = by("told");
  told.append(box);
  while (told.children.length > 4) told.firstChild.remove();
  if (!wrong) setTimeout(() => { if (!box.matches(":hover, :focus-within")) box.remove(); }, 15000);
}

async function attempt(deed, done, command, undo) {
  try {
    const reply = await deed();
    if (done) tell(typeof done === "function" ? done(reply) : done, command, false, undo?.(reply));
    return reply;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 401) askToken(); else tell(error.message, command, true);
    return null;
  }
}

const get = (path) => attempt(() => ask("GET", path));
const pathOf = (id) => `${V1}/jobs/${encodeURIComponent(id)}`;
const named = (state) => NAMES[state] || state;

/** Asks once, showing the number of jobs and the command line; the focus is on Cancel. */
const sure = (title, text, command, verb) => dialog(title, (close) => el("div", {},
  el("p", {}, text),
  lineOf(command), ends(close, verb.startsWith("Cancel") ? "Go back" : "Cancel", el("button", { className: "danger", onclick: () => close(true) }, verb))));

// -- the list

function target(cursor) {
  const query = new URLSearchParams();
  for (const state of view.states) query.append("state", state);
  if (view.q) query.set("q", view.q);
  query.set("sort", view.sort);
  query.set("limit", "50");
  if (cursor) query.set("cursor", cursor);
  return `${V1}/jobs?${query}`;
}

let asked = 0;
async function load(cursor) {
  const mine = ++asked;
  const reply = await get(target(cursor));
  if (!reply || mine !== asked) return null;
  const { items, position } = reply.form;
  next = reply.form.next;
  if (!cursor) moved.clear();
  const fresh = new Set(items.map((job) => job.id));
  if (!cursor) for (const [id, row] of rows) if (!fresh.has(id)) { row.tr.remove(); rows.delete(id); chosen.delete(id); }
  for (const job of items) {
    const row = rows.get(job.id) || addRow(job);
    fill(row, job);
    by("rows").append(row.tr);
  }
  showEnds();
  return position;
}

function addRow(job) {
  const cell = (name, ...inner) => el("td", { className: name }, inner);
  const tr = el("tr", {},
    cell("", el("input", { type: "checkbox", tabIndex: -1, "aria-label": `Select ${job.id}`,
      onclick: (event) => pick(job.id, event.target.checked, event.shiftKey) })),
    cell("", el("span", { className: "state" })),
    cell("job", el("button", { className: "plain", dir: "auto", title: job.id, onclick: () => open(job.id) }, job.id)),
    cell("cmd"), cell("number"), cell("number"), cell("number"));
  tr.addEventListener("click", (event) => { if (event.target.tagName === "TD") mark(job.id); });
  const row = { job, tr };
  rows.set(job.id, row);
  return row;
}

/** Draws a part anew; a button in it that had the focus keeps it. */
function keeping(part, draw) {
  const held = part.contains(document.activeElement) ? document.activeElement.textContent : null;
  draw();
  if (held) [...part.querySelectorAll("button")].find((kept) => kept.textContent === held)?.focus();
}

const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };

function fill(row, job) {
  row.job = row.tr.job = job;
  const cells = row.tr.cells;
  row.tr.dataset.state = job.state;
  row.tr.classList.toggle("gone", Boolean(job.removed));
  const state = job.cancel_requested ? "ending" : named(job.state);
  set(cells[1].firstChild, `${MARKS[job.state]} ${state}`);
  const why = job.error && (job.state === "dead" || job.state === "failed") ? job.error : "";
  const text = plain(job.command.slice(0, 300)).replaceAll("\n", " ⏎ ");
  const tags = [job.every ? `every ${span(job.every)}` : job.cron, ...(job.tags || [])].filter(Boolean).join(", ");
  if (row.shown !== text + why + tags) {
    row.shown = text + why + tags;
    put(cells[3], el("div", { className: "both" }, el("bdi", {}, text), tags && el("span", { className: "tags", title: tags }, tags), why && el("small", { dir: "auto" }, plain(why.slice(0, 200)))));
    cells[3].title = plain(job.command.slice(0, 2000)) + (why ? `\n${plain(why)}` : "");
  }
  set(cells[4], `${job.attempts} of ${job.max_retries + 1}`);
  tick(row);
}

function ran(job) {
  if (!job.started_at) return "";
  if (job.state === "in_progress") return span(Math.floor(since(job.started_at)));
  return job.finished_at ? span(seconds(job.finished_at) - seconds(job.started_at)) : "";
}

function tick(row) {
  set(row.tr.cells[5], ran(row.job));
  const due = row.job.state === "failed" || row.job.state === "pending" ? seconds(row.job.run_at) - now() / 1000 : 0;
  set(row.tr.cells[6], due > 1 ? `due in ${span(Math.ceil(due))}` : ago(row.job.updated_at));
}

const fits = (job) => (!view.states.length || view.states.includes(job.state))
  && (!view.q || `${job.id}\n${job.command}`.toLowerCase().includes(view.q.toLowerCase()));

/** Whether a person is using the list, so that rows must not move under the pointer. */
const busy = () => by("scroll").scrollTop > 5 || chosen.size > 0 || by("rows").matches(":hover, :focus-within");

// Changes are shown together, since reading the scroll position forces a new layout.
const arrived = new Map();
let showing = 0, reloading = 0;
function arrive(job) {
  arrived.delete(job.id);
  arrived.set(job.id, job);
  showing = showing || setTimeout(showArrived, 0);
}

function showArrived() {
  const jobs = [...arrived.values()], held = busy();
  showing = 0;
  arrived.clear();
  if (held || jobs.length <= MANY) { for (const job of jobs) takeJob(job, held); return; }
  const open_ = jobs.find((job) => job.id === view.job);
  if (open_?.removed) gone(); else if (open_) refreshDrawer(open_);
  reloading = reloading || setTimeout(() => { reloading = 0; load(); }, 300);
}

function takeJob(job, held) {
  const row = rows.get(job.id);
  if (row && !row.job.removed && job.rev < row.job.rev) return; // the list was loaded meanwhile
  if (job.removed) {
    if (row) { row.job.removed = true; row.tr.classList.add("gone"); chosen.delete(job.id); showChosen(); }
    moved.delete(job.id);
    if (view.job === job.id) gone();
    return;
  }
  if (view.job === job.id) refreshDrawer(job);
  if (!fits(job)) {
    if (row) { fill(row, job); row.tr.classList.add("left"); if (!held) drop(row); }
    moved.delete(job.id);
    return;
  }
  if (row) fill(row, job);
  if (!held) place(job); else if (!row || view.sort === "-updated_at") moved.set(job.id, job);
}

function drop(row) { row.tr.remove(); rows.delete(row.job.id); chosen.delete(row.job.id); }

// The server's order; ids make all keys distinct.
const SORTED = { updated_at: (job) => [job.updated_at, job.id], created_at: (job) => [job.created_at, job.id],
  priority: (job) => [job.priority, job.run_at, job.id], run_at: (job) => [job.run_at, job.id], id: (job) => [job.id] };

/** Whether a job is further down in the list than another. */
function behind(one, other) {
  const down = view.sort[0] === "-", key = SORTED[view.sort.replace("-", "")];
  const [a, b] = [key(one), key(other)];
  const at = a.findIndex((value, index) => value !== b[index]);
  return at >= 0 && (a[at] > b[at]) !== down;
}

/** Moves the job to its present position, unless that is below what is loaded. */
function place(job) {
  const known = rows.has(job.id);
  const row = rows.get(job.id) || addRow(job);
  fill(row, job);
  let before = by("rows").firstElementChild;
  while (before && (before === row.tr || !behind(before.job, job))) before = before.nextElementSibling;
  if (!before && next) { drop(row); return; }
  if (!known) row.tr.classList.add("fresh");
  by("rows").insertBefore(row.tr, before);
  while (rows.size > MOST_ROWS) {
    drop(rows.get(by("rows").lastElementChild.job.id));
    next = next || "more";
  }
}

function showMoved() {
  if (!busy()) {
    const waiting = [...moved.values()];
    moved.clear();
    if (waiting.length > MANY) load(); else for (const job of waiting) place(job);
    for (const row of [...rows.values()]) if (row.tr.matches(".left, .gone")) drop(row);
  }
  const button = by("moved");
  button.hidden = !moved.size;
  if (moved.size) set(button, `${counted(moved.size, "job")} changed: show`);
  showEnds();
}

function found() {
  if (!view.q && !view.states.length) return "";
  if (!view.q && standing) return `${number(view.states.reduce((sum, state) => sum + standing.jobs[state], 0))} found`;
  return `${number([...rows.values()].filter(({ tr }) => !tr.matches(".gone, .left")).length)}${next ? " or more" : ""} found`;
}

function showEnds() {
  by("more").hidden = !next;
  set(by("found"), found());
  const none = by("none");
  none.hidden = rows.size > 0;
  if (rows.size) return;
  if (view.states.length || view.q) put(none, "No job is like that. ", el("button", { onclick: () => go({ states: [], q: "" }) }, "Show all"));
  else put(none, el("p", {}, "The queue holds no job. Add one with the button above, or type"), el("code", {}, "queuectl enqueue -- echo Hello"));
}

// -- selecting

function pick(id, on, range) {
  const ids = [...by("rows").children].map((tr) => tr.job.id);
  const from = range && lastPicked ? ids.indexOf(lastPicked) : -1;
  const to = ids.indexOf(id);
  for (const one of from >= 0 ? ids.slice(Math.min(from, to), Math.max(from, to) + 1) : [id]) {
    if (on) chosen.add(one); else chosen.delete(one);
  }
  lastPicked = id;
  showChosen();
}

function showChosen() {
  for (const [id, row] of rows) row.tr.cells[0].firstChild.checked = chosen.has(id);
  by("selected").hidden = !chosen.size || !full;
  set(by("selected-count"), `${counted(chosen.size, "job")} selected`);
}

function mark(id, scroll) {
  rows.get(marked)?.tr.classList.remove("marked");
  marked = id;
  const row = rows.get(id);
  row?.tr.classList.add("marked");
  if (scroll && row) { row.tr.scrollIntoView({ block: "nearest" }); row.tr.cells[2].firstChild.focus({ preventScroll: true }); }
}

function step(by_) {
  const list = [...by("rows").children];
  if (!list.length) return;
  const at = list.findIndex((tr) => tr.classList.contains("marked"));
  const to = list[Math.max(0, Math.min(list.length - 1, at < 0 ? 0 : at + by_))];
  mark(to.job.id, true);
}

// -- actions on jobs

const DEEDS = {
  retry: { verb: "Retry", done: "is pending", word: "retry", many: "retried" },
  cancel: { verb: "Cancel", done: "is cancelled", word: "cancel", many: "cancelled" },
  purge: { verb: "Remove", done: "is removed", word: "purge", many: "removed" },
};

async function one(deed, id) {
  if (!full) return;
  const { word, done, verb } = DEEDS[deed];
  const path = pathOf(id);
  if (deed === "purge") {
    if (!await sure(`Remove job ${id}?`, "The job and its output are removed for good.", line("purge", id, "--yes"), verb)) return;
    await attempt(() => ask("DELETE", path), `Job ${id} ${done}.`);
    return;
  }
  const job = shown?.id === id ? shown : rows.get(id)?.job;
  if (deed === "cancel" && job?.state === "in_progress" && !await sure(`Cancel job ${id}?`, "It runs; its worker ends it.", line(word, id), "Cancel the job")) return;
  await attempt(() => ask("POST", `${path}/${deed}`), (reply) => `Job ${id} is ${reply.form.state === "in_progress" ? "asked to end" : reply.form.state}.`, line(word, id),
    (reply) => deed === "cancel" && job?.state === "pending" && !job.attempts && reply.form.state === "cancelled" && (() => wait(path, job, reply)));
}

/** Lets a cancelled job wait again for its parents. */
const wait = (path, { id, run_at }, reply) => attempt(() => ask("PATCH", path, { state: "pending", run_at }, { "if-match": reply.headers.get("etag") }),
  `Job ${id} is pending again.`, line("update", id, "--state", "pending", "--run-at", run_at));

async function many(deed, body, command, what) {
  const path = body.group || body.all ? `${V1}/dlq/retry` : `${V1}/jobs/${deed}`;
  const shown = await attempt(() => ask("POST", path, { ...body, dry_run: true }));
  if (!shown) return;
  const { count, ids } = shown.form;
  const told = command || (ids.length < count ? "" : line("dlq", "retry", ...ids, "--yes"));
  const { verb, many: did } = DEEDS[deed];
  if (!count) { tell(`${what}: none can be ${did}.`, "", true); return; }
  const text = deed === "purge" ? "They and their output are removed for good." : `${what}, and what comes after them. If others are meant by then, nothing is done.`;
  if (!await sure(`${verb} ${counted(count, "job")}?`, text, told, `${verb} ${number(count)}`)) return;
  await attempt(() => ask("POST", path, { ...body, expect: count }), ({ form: { count: all, kept } }) => `${counted(all, "job")} ${did}.${kept.length ? ` ${counted(kept.length, "job")} stayed, for which others wait.` : ""}`, told);
  chosen.clear();
  showChosen();
}

const bulk = (deed) => chosen.size && many(deed, { ids: [...chosen] }, line(DEEDS[deed].word, ...chosen, "--yes"), "The selected jobs");

// -- standing

function showStanding() {
  if (!standing) return;
  const all = { all: standing.total, ...standing.jobs };
  const list = by("counts");
  if (!list.children.length) {
    for (const name of ["all", ...STATES]) {
      list.append(el("li", {}, el("button", { "data-state": name, "data-filter": name,
        onclick: (event) => filter(name, event.shiftKey || event.ctrlKey) },
      el("b", {}), el("span", {}, name !== "all" && el("span", { className: "mark", "aria-hidden": "true" }, MARKS[name]), name === "all" ? "all jobs" : name === "failed" ? "failed, will retry" : named(name)))));
    }
  }
  for (const item of list.children) {
    const button = item.firstChild;
    const name = button.dataset.filter;
    set(button.firstChild, number(all[name]));
    button.setAttribute("aria-pressed", String(name === "all" ? !view.states.length : view.states.includes(name)));
  }
  verdict();
  document.title = `${standing.jobs.dead ? `(${standing.jobs.dead} dead) ` : ""}queuectl – ${queue.split("/").pop()}`;
}

function verdict() {
  const { jobs, health, paused: held, workers: { active, hindered } } = standing;
  const waiting = jobs.pending + jobs.failed;
  const box = by("verdict");
  const parts = [];
  let how = "good";
  if (fails && !paused) { how = "warn"; parts.push(`The server has not answered since ${clock(heard)}: this is how it was then.`); }
  else if (trouble) { how = "bad"; parts.push(trouble); }
  else if (health === "stalled") {
    how = "bad";
    parts.push(`${active ? "No worker can work" : "No worker runs"}, and ${counted(waiting + jobs.in_progress, "job")} ${waiting + jobs.in_progress === 1 ? "waits" : "wait"}.`);
    if (!active && full) parts.push(el("button", { className: "main", onclick: startWorker }, "Start a worker"));
  } else if (hindered.length) { how = "warn"; parts.push(`${counted(hindered.length, "worker")} cannot work: ${hindered[0].why}`); }
  else if (held.length) {
    how = "warn";
    parts.push(held.includes("*") ? "The queue is paused: no job starts." : `Paused: ${held.join(", ")}.`);
    if (full) parts.push(el("button", { onclick: held.includes("*") ? () => gate("resume") : showGate }, held.includes("*") ? "Resume" : "Look…"));
  }
  else if (jobs.in_progress) parts.push(`Well: ${number(jobs.in_progress)} running, ${number(waiting)} waiting, ${counted(active, "worker")}.`);
  else if (waiting) parts.push(`Well: ${number(waiting)} waiting for their time, ${counted(active, "worker")}.`);
  else parts.push(`Well: nothing to do, ${counted(active, "worker")}.`);
  if (jobs.dead && !trouble) {
    if (how === "good") how = "warn";
    parts.push(el("button", { className: "plain", onclick: () => go({ states: ["dead"] }) }, `${counted(jobs.dead, "job")} dead`));
  }
  const text = how + parts.map((part) => part.textContent || part).join("");
  if (box.dataset.text !== text) { box.dataset.text = text; box.dataset.how = how; keeping(box, () => put(box, ...parts.map((part) => (typeof part === "string" ? el("span", {}, part) : part)))); announce(box.textContent); }
}

let announcedAt = 0;
function announce(text) {
  if (Date.now() - announcedAt < 10000) return;
  announcedAt = Date.now();
  set(by("announce"), text);
}

function filter(name, add) {
  if (name === "all") return go({ states: [] });
  if (add) return go({ states: view.states.includes(name) ? view.states.filter((kept) => kept !== name) : [...view.states, name] });
  return go({ states: view.states.length === 1 && view.states[0] === name ? [] : [name] });
}

// -- workers

/** The items of a list by id; removes those that are not among `ids`. */
function items(list, ids) {
  for (const li of [...list.children]) if (!ids.includes(li.dataset.id)) li.remove();
  return new Map([...list.children].map((li) => [li.dataset.id, li]));
}

function showWorkers() {
  const list = by("workers");
  const known = items(list, workers.map((worker) => worker.id));
  if (!workers.length) {
    put(list, el("li", { className: "soft" }, el("div", { className: "what" }, el("span", {}, "No worker runs."), el("code", {}, "queuectl worker start"))));
    by("stop").hidden = true;
    return;
  }
  by("stop").hidden = !full;
  for (const worker of workers) {
    let li = known.get(worker.id);
    if (!li) {
      li = el("li", { "data-id": worker.id }, el("div", { className: "what" }, el("span", {}), el("span", { className: "soft" })),
        full && !worker.host && el("button", { "aria-label": `Stop worker ${worker.pid}`, onclick: () => stopWorker(worker) }, "Stop"));
      list.append(li);
    }
    li.worker = worker;
    tickWorker(li);
  }
}

function tickWorker(li) {
  const worker = li.worker;
  const [first, second] = li.firstChild.children;
  const key = `${worker.job}|${worker.alive}|${worker.hindered}`;
  if (first.dataset.key !== key) {
    first.dataset.key = key;
    const state = worker.hindered ? "failed" : !worker.alive ? "lost" : worker.job ? "in_progress" : "";
    put(first, el("span", { className: "state", "data-state": state }, worker.hindered ? "⚠ hindered " : !worker.alive ? "? lost " : worker.job ? "▶ " : "○ idle "),
      worker.job && el("button", { className: "plain", dir: "auto", onclick: () => open(worker.job) }, worker.job));
    second.title = plain(worker.hindered || worker.command || "");
  }
  set(second, worker.hindered || [worker.job_since && `for ${span(Math.floor(since(worker.job_since)))}`, `PID ${worker.pid}`, worker.host, worker.since && `up ${span(Math.floor(since(worker.since)))}`,
    worker.beat && `beat ${ago(worker.beat)}${since(worker.beat) < 1 ? "" : " ago"}`, worker.command && plain(worker.command.slice(0, 80))].filter(Boolean).join(" · "));
}

const startWorker = () => attempt(() => ask("POST", `${V1}/workers`, { count: 1 }), (reply) => `Worker ${reply.form.pids.join(", ")} runs.`, "queuectl worker start");
const stopWorker = (worker) => attempt(() => ask("POST", `${V1}/workers/stop`, { workers: [worker.id] }), `Worker ${worker.pid} stops once its job is finished.`, line("worker", "stop", worker.pid));
async function stopAll() {
  const far = workers.some((worker) => worker.host), command = line("worker", "stop", ...(far ? ["--all-hosts"] : []));
  if (await sure("Stop all workers?", `${counted(workers.length, "worker")}${far ? ", of all hosts" : ""}: each finishes its job first.`, command, "Stop all")) {
    await attempt(() => ask("POST", `${V1}/workers/stop`, { all_hosts: far }), "The workers stop once their jobs are finished.", command);
  }
}

// -- what may start

const gate = (verb, ...tags) => attempt(() => ask("POST", `${V1}/${verb}`, tags.length ? { tags } : {}),
  (reply) => (reply.form.paused.length ? `Paused is now: ${reply.form.paused.map((tag) => (tag === "*" ? "the whole queue" : tag)).join(", ")}.` : "Nothing is paused any more."), line(verb, ...tags));
const bound = (tag, most) => attempt(() => ask("PUT", `${V1}/limits`, { tag, most }),
  most === null ? `Any number of jobs tagged ${tag} may run at once.` : `At most ${most} tagged ${tag} run at once.`, line("limit", tag, most ?? "none"));

/** Pauses and limits: what is held, and how to release it. */
async function showGate() {
  if (!full) return;
  const [limits, status] = await Promise.all([get(`${V1}/limits`), get(`${V1}/status`)]);
  if (!limits || !status) return;
  const { paused } = status.form;
  let again = false;
  await dialog("What may start", (close) => {
    const then = (deed) => async () => { if (await deed()) { again = true; close(); } };
    const tag = el("input", { type: "text", autocomplete: "off", spellcheck: false, placeholder: "tag", "aria-label": "Tag" });
    const most = el("input", { type: "text", inputMode: "numeric", placeholder: "most at once", "aria-label": "Most at once" });
    const item = (text, ...more) => el("li", {}, el("div", { className: "what" }, el("span", { dir: "auto" }, text)), ...more);
    return el("div", {},
      el("ul", { className: "list" },
        paused.includes("*") ? item("The whole queue is paused.", el("button", { className: "main", autofocus: true, onclick: then(() => gate("resume")) }, "Resume"))
          : item("Jobs may start.", el("button", { autofocus: true, onclick: then(() => gate("pause")) }, "Pause the queue")),
        paused.filter((name) => name !== "*").map((name) => item(`Tag ${name} is paused.`, el("button", { "aria-label": `Resume ${name}`, onclick: then(() => gate("resume", name)) }, "Resume"))),
        limits.form.limits.map(({ tag: name, limit, running }) => item(`Tag ${name}: ${running} of at most ${limit} run.`, el("button", { "aria-label": `No limit for ${name}`, onclick: then(() => bound(name, null)) }, "No limit")))),
      el("div", { className: "bar" }, tag, most,
        el("button", { onclick: then(() => bound(tag.value.trim(), Number(most.value))) }, "Limit"),
        el("button", { onclick: then(() => gate("pause", tag.value.trim())) }, "Pause tag")),
      ends(close, "Close"));
  });
  if (again) showGate();
}

// -- dead jobs by cause

async function loadGroups() {
  const reply = await get(`${V1}/dlq/groups`);
  if (!reply) return;
  const { groups } = reply.form;
  by("retry-dead").hidden = !groups.length || !full;
  const list = by("groups");
  const known = items(list, groups.map((group) => group.group));
  if (!groups.length) put(list, el("li", { className: "soft" }, "No job is dead."));
  groups.slice(0, 50).forEach((group, at) => {
    const li = known.get(group.group) || addGroup(group);
    const [count, what] = li.children;
    set(count, number(group.count));
    li.last = group.last;
    tickGroup(li);
    set(what.lastChild.lastChild, group.samples.at(-1));
    if (list.children[at] !== li) list.insertBefore(li, list.children[at] || null);
  });
}

const tickGroup = (li) => { const age = ago(li.last); set(li.children[1].lastChild.firstChild, `last ${age === "now" ? age : `${age} ago`} · `); };

function addGroup(group) {
  return el("li", { "data-id": group.group },
    el("span", { className: "count" }),
    el("div", { className: "what" },
      el("span", { title: plain(group.cause), dir: "auto" }, plain(group.cause)),
      el("span", { className: "soft" }, el("span", {}), el("button", { className: "plain", dir: "auto", onclick: (event) => open(event.target.textContent) }, ""))),
    full && el("button", { "aria-label": `Retry those dead of ${group.cause}`,
      onclick: () => many("retry", { group: group.group }, "", `The jobs dead of "${group.cause}"`) }, "Retry"));
}

// -- statistics

async function loadFigures() {
  const reply = await get(`${V1}/stats`);
  if (!reply) return;
  figures = reply.form;
  dirty ||= !reply.headers.get("etag"); // they are behind the queue
  showFigures();
}

/** Minutes since the hour was read. */
const passed = () => Math.min(60, Math.floor(since(figures.at) / 60));
let drawn = -1, told = "";
function showFigures() {
  drawn = passed();
  showChart();
  const times = [["", "median", "95 %"], ["waited", figures.wait], ["ran", figures.run]];
  put(by("times"), times.flatMap(([name, values, last]) => (name
    ? [el("dt", {}, name), el("dd", {}, span(values.median)), el("dd", {}, span(values.p95))]
    : [el("dt", {}, name), el("dt", {}, values), el("dt", {}, last)])));
  const recent = figures.recent.filter((event) => since(event.at) < 3600);
  if (told === JSON.stringify(recent)) return;
  told = JSON.stringify(recent);
  keeping(by("recent"), () => put(by("recent"), recent.length ? recent.slice(0, 100).map(happened) : el("li", { className: "soft" }, "Nothing happened in the last hour.")));
}

function happened(event) {
  return el("li", {}, el("span", { className: "soft number" }, clock(event.at)),
    el("span", { className: "state", "data-state": event.event }, el("span", { className: "mark", "aria-hidden": "true" }, MARKS[event.event] || "·"), event.event),
    el("button", { className: "plain", dir: "auto", title: plain(event.why || event.id), onclick: () => open(event.id) }, event.id));
}

function showChart() {
  const NS = "http://www.w3.org/2000/svg";
  const make = (tag, given, text) => {
    const node = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(given)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const minutes = [...figures.hour.minutes.slice(drawn), ...Array(drawn).fill([0, 0, 0])];
  const [completed, failed, dead] = [0, 1, 2].map((at) => minutes.reduce((sum, slot) => sum + slot[at], 0));
  const highest = Math.max(...minutes.map((slot) => slot[0] + slot[1])), most = Math.max(4, highest);
  const width = 600, height = 64, low = 50;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `In the last hour ${completed} jobs completed, ${failed} runs failed and ${dead} jobs died.` });
  svg.append(make("line", { class: "base", x1: 0, x2: width, y1: low, y2: low }));
  minutes.forEach((slot, at) => {
    const group = make("g", {});
    group.append(make("title", {}, `${59 - at} min ago: ${slot[0]} completed, ${slot[1]} failed, ${slot[2]} dead`));
    let top = low;
    for (const [name, count] of [["completed", slot[0]], ["failed", Math.max(0, slot[1] - slot[2])], ["dead", slot[2]]]) {
      const tall = count ? Math.max(2, (count / most) * (low - 2)) : 0;
      if (tall) group.append(make("rect", { class: `bar-${name}`, x: at * 10 + 1, width: 8, y: (top -= tall), height: tall }));
    }
    svg.append(group);
  });
  put(by("chart"), svg, el("div", { className: "axis" }, el("span", {}, "60 min ago"), el("span", {}, "now")));
  put(by("figures-title"), "Ends a minute, 60 minutes", el("span", { className: "key" },
    ...[["completed", completed], ["failed", failed - dead], ["dead", dead]].map(([name, count]) => el("span", {}, el("i", { className: name }), `${name} ${number(Math.max(0, count))}`)),
    highest > 0 && el("span", {}, `at most ${highest}`)));
  put(by("chart-table"), el("table", {}, el("thead", {}, el("tr", {}, ["Minutes ago", "Completed", "Failed", "Dead"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, minutes.map((slot, at) => [slot, 59 - at]).filter(([slot]) => slot[0] + slot[1] + slot[2]).reverse()
      .map(([slot, age]) => el("tr", {}, [age, ...slot].map((value) => el("td", {}, String(value))))))));
}

// -- the drawer

let shown = null, out = null, drawerAsked = 0;

function open(id) { mark(id); go({ job: id }); }

function gone() { tell(`Job ${view.job} is removed.`); go({ job: "" }); }

// On a narrow screen the drawer covers the page, which cannot be reached then.
const narrow = matchMedia("(max-width: 700px)");
function cover() { for (const part of document.querySelectorAll("header, main")) part.inert = narrow.matches && !by("drawer").hidden; }
narrow.addEventListener("change", cover);

async function showDrawer() {
  const drawer = by("drawer");
  const id = view.job;
  if (!id) {
    const back = drawer.contains(document.activeElement);
    drawer.hidden = true;
    cover();
    put(drawer);
    shown = null;
    if (out) { out = null; connect(); }
    if (back) (rows.get(marked)?.tr.cells[2].firstChild || by("jobs-title")).focus();
    return;
  }
  const mine = ++drawerAsked;
  const path = pathOf(id);
  const [reply, why] = await Promise.all([get(path), ask("GET", `${path}/explain`).catch(() => null)]);
  if (mine !== drawerAsked || view.job !== id) return;
  if (!reply) { go({ job: "" }); return; }
  const first = shown?.id !== id;
  shown = reply.form;
  shown.tag = reply.headers.get("etag");
  if (first) {
    put(drawer, el("div", { className: "bar" }, el("h2", { id: "drawer-title", tabIndex: -1, dir: "auto" }, id),
      el("button", { "aria-label": "Close", onclick: () => go({ job: "" }) }, "Close ✕")),
    el("div", { id: "about" }), el("div", { id: "output-part" }));
    drawer.hidden = false;
    cover();
    out = null;
    showOutput(shown.run);
    by("drawer-title").focus();
  } else if (out && shown.run !== out.run && out.follow) showOutput(shown.run);
  showAbout(why?.form);
}

let refreshing = 0;
function refreshDrawer(job) {
  if (shown && job.rev === shown.rev) return;
  clearTimeout(refreshing);
  refreshing = setTimeout(showDrawer, 200);
}

function showAbout(why) {
  const job = shown, kin = why || {};
  const button = (text, deed, on, name = "") => el("button", { onclick: deed, disabled: !on, className: name }, text);
  const live = ["pending", "failed", "in_progress"].includes(job.state);
  const each = (names, states = {}) => (names?.length ? names.map((name, at) => [at > 0 && ", ", el("button", { className: "plain", dir: "auto", onclick: () => open(name) }, name), states[name] && ` (${named(states[name])})`]).flat() : null);
  const words = (names) => names?.join(", ") || null;
  const policy = [["first retry after", job.retry_delay, span], ["times", job.base, number], ["at most", job.max_delay, span], ["left to chance", job.jitter, number], ["only after", job.retry_on, words], ["not after", job.no_retry_on, words]]
    .filter(([, value]) => value !== null && value !== undefined).map(([name, value, say_]) => `${name} ${say_(value)}`);
  const facts = [["State", `${named(job.state)}${job.cancel_requested ? ", asked to end" : ""}`], ["Exit code", job.exit_code], ["Error", job.error],
    ["Priority", job.priority], ["Tries", `${job.attempts} of ${job.max_retries + 1}`], ["Runs", job.run], ["Workers lost", job.losses || null],
    ["After", each(job.after, kin.parents)], ["After the end of", each(job.after_end, kin.parents)], ["Waited for by", each(Object.keys(kin.children || {}), kin.children)],
    ["Not before", job.state === "failed" || seconds(job.run_at) > seconds(job.created_at) ? clock(job.run_at) : null], ["Time limit", job.timeout && span(job.timeout)], ["Retries", words(policy)],
    ["Tags", words(job.tags?.map((tag) => (kin.limits?.[tag] ? `${tag} (at most ${kin.limits[tag]} at once)` : tag)))], ["Locks", words(job.lock)], ["Unique key", job.unique], ["Holds", words(job.slots)],
    ["Schedule", job.every ? `every ${span(job.every)}` : job.cron ? `${job.cron} (${job.tz || "UTC"})` : null], ["Missed times", job.every || job.cron ? (job.catch_up ? "run once" : "left out") : null], ["Overlap", job.overlap ? "runs though the copy before lives" : null],
    ["Latest copy", job.last && each([job.last])], ["Planned", job.planned && clock(job.planned)], ["Folder", job.cwd], ["Variables from", job.env_file], ["Variables", job.env && Object.keys(job.env).join(", ")],
    ["Log limit", job.log_limit === null ? null : `${number(job.log_limit)} bytes`], ["Rerun", job.rerun ? null : "not if its worker is lost"], ["Notify", job.notify ? null : "no hook tells of its end"], ["Worker", job.state === "in_progress" ? job.worker : null], ["Rev", job.rev]];
  keeping(by("about"), () => put(by("about"),
    el("div", { className: "bar" },
      el("span", { className: "state", "data-state": job.state }, `${MARKS[job.state]} ${named(job.state)}`),
      el("span", { className: "grow" }),
      full && button("Retry", () => one("retry", job.id), job.state !== "in_progress" && !(job.state === "pending" && seconds(job.run_at) <= now() / 1000)),
      full && button("Cancel", () => one("cancel", job.id), live),
      full && button("Edit…", () => form(job), job.state !== "in_progress"),
      full && button("Again…", () => form(job, true), true),
      full && button("Remove…", () => one("purge", job.id), !live, "danger")),
    el("pre", { className: "command", tabIndex: 0, dir: "auto", "aria-label": "Command" }, plain(job.command)),
    why && el("p", { dir: "auto" }, why.reasons.map((reason) => plain(reason.text).replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, clock)).join(" ")),
    el("h3", {}, "Timeline"), timeline(job),
    el("h3", {}, "Fields"),
    el("dl", { className: "facts" }, facts.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) => [el("dt", {}, name), el("dd", { dir: "auto" }, Array.isArray(value) ? value : plain(String(value)))])),
    job.env && full && el("p", {}, el("button", { onclick: showVariables }, "Show the values of its variables")),
    lineOf(line("show", job.id))));
}

async function showVariables() {
  const reply = await get(`${pathOf(shown.id)}/env`);
  if (reply) {
    await dialog(`Variables of ${shown.id}`, (close) => el("div", {}, el("dl", { className: "facts" },
      Object.entries(reply.form.env).flatMap(([name, value]) => [el("dt", { className: "mono" }, plain(name)), el("dd", { className: "mono" }, plain(value))])),
    ends(close, "Close")));
  }
}

const EVENTS = { fail: "failed", release: "stopped", lose: "lost", cancel: "cancelled", retry: "retried", skip: "left out", edit: "edited", ask: "asked to end", replace: "replaced" };

/** What happened to the job, and the time between, in words. */
function timeline(job) {
  const events = [{ at: job.created_at, name: "created", text: "enqueued" }];
  for (const entry of job.history) {
    events.push({ at: entry.at, name: EVENTS[entry.event] || entry.event, text: `${EVENTS[entry.event] || entry.event}${entry.run ? `, run ${entry.run}` : ""}${entry.error ? `: ${entry.error}` : entry.exit_code !== undefined ? `: exit code ${entry.exit_code}` : ""}${entry.by ? `, by ${entry.by}` : ""}` });
  }
  if (job.started_at) events.push({ at: job.started_at, name: "started", text: `run ${job.run} started` });
  if (job.finished_at && ["completed", "dead", "cancelled"].includes(job.state)) events.push({ at: job.finished_at, name: job.state, text: job.state });
  if (job.state === "failed") events.push({ at: job.run_at, name: "pending", text: "runs again" });
  events.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  const items = [];
  events.forEach((event, at) => {
    const gap = at ? seconds(event.at) - seconds(events[at - 1].at) : 0;
    if (gap >= 1) items.push(el("li", { className: "gap" }, `${span(gap)} later`));
    items.push(el("li", { "data-state": event.name }, el("span", { className: "soft" }, `${clock(event.at)} `), el("span", { dir: "auto" }, plain(event.text))));
  });
  return el("ol", { className: "list timeline" }, items.slice(-60));
}

// -- output

const WINDOW = 131072; // bytes shown at first, and with each further part
const NEAR = 4096; // bytes before a position that is jumped to
const encoder = new TextEncoder(), decoder = new TextDecoder();
const bytes = (text) => encoder.encode(text).length;

async function showOutput(run) {
  const part = by("output-part");
  if (!run) { out = null; put(part, el("h3", {}, "Output"), el("p", { className: "soft" }, "It has not run yet.")); connect(); return; }
  const job = shown;
  const path = `${pathOf(job.id)}/logs`;
  out = { id: job.id, run, path, begin: 0, end: 0, size: 0, follow: true, ended: false, away: true, hits: [], hit: -1 };
  const box = el("div", { className: "output wrap", id: "output", tabIndex: 0, role: "log", "aria-live": "off", "aria-label": `Output of run ${run}` });
  const runs = Array.from({ length: Math.min(job.run, 50) }, (_, at) => job.run - at);
  put(part, el("h3", {}, "Output"),
    el("div", { className: "bar" },
      el("label", {}, el("span", { className: "unseen" }, "Run"), el("select", { onchange: (event) => showOutput(Number(event.target.value)) }, runs.map((each) => el("option", { value: each, selected: each === run }, `run ${each}`)))),
      el("button", { id: "follow", "aria-pressed": "true", onclick: () => follow(!out.follow) }, "Follow"),
      el("button", { id: "first", onclick: () => showPart(0) }, "Start"),
      el("button", { id: "last", onclick: () => showPart(-WINDOW, true) }, "End"),
      el("button", { "aria-pressed": "true", onclick: (event) => press(event.target, box.classList.toggle("wrap")) }, "Wrap"),
      el("button", { onclick: fold, id: "fold", "aria-pressed": "false" }, "Fold"),
      el("label", {}, el("span", { className: "unseen" }, "Find in the output; Enter goes to the next"), el("input", { id: "find", className: "find", type: "search", placeholder: "Find", oninput: find, onkeydown: (event) => { if (event.key === "Enter") hop(event.shiftKey); } })),
      el("span", { id: "hits", className: "soft", role: "status" }),
      el("button", { id: "download", onclick: download }, "Download")),
    el("p", { id: "cut", className: "soft" }), box,
    el("p", { className: "soft" }, el("button", { id: "later", className: "plain", hidden: true, onclick: () => showPart(out.end) }, "Load what comes next")),
    lineOf(line("logs", job.id, "--run", run)));
  box.addEventListener("scroll", () => { if (out?.follow && box.scrollHeight - box.scrollTop - box.clientHeight > 60) follow(false); });
  await showPart(-WINDOW, true);
}

const press = (button, on) => button.setAttribute("aria-pressed", String(Boolean(on)));
function follow(on) {
  if (!out) return;
  out.follow = on;
  press(by("follow"), on);
  if (on && out.away) showPart(-WINDOW, true);
  else if (on) by("output").scrollTop = by("output").scrollHeight;
}

/** Replaces the shown output by another part: from a byte on, or so many bytes at its end.
 *  `last`: its end matters; `mark`: the byte at which something was found. */
async function showPart(from, last, mark, limit = WINDOW) {
  const mine = out, turn = mine.turn = (mine.turn || 0) + 1; // only the latest request counts
  mine.follow &&= Boolean(last);
  const reply = await get(`${mine.path}?run=${mine.run}&offset=${from}&limit=${limit}`);
  const box = by("output");
  if (!reply || out !== mine || turn !== mine.turn || !box) return;
  const told = (name) => Number(reply.headers.get(name));
  let { text } = reply;
  Object.assign(mine, { begin: told("x-log-offset"), size: told("x-log-size"), ended: reply.headers.get("x-log-complete") === "true",
    lines: [], tail: "", open: null, style: new Set(), hits: [], hit: -1 });
  mine.end = mine.begin + reply.size;
  const most = text.split("\n", MOST_LINES);
  if (!last && most.length === MOST_LINES) { text = `${most.join("\n")}\n`; mine.end = mine.begin + bytes(text); }
  mine.away = mine.size - mine.end > 3; // up to 3 bytes may be an incomplete character
  mine.follow = Boolean(last && !mine.away);
  press(by("follow"), mine.follow);
  put(box);
  box.classList.remove("folded");
  press(by("fold"), false);
  if (mark === undefined) addOutput(text);
  else {
    const front = decoder.decode(encoder.encode(text).subarray(0, mark - mine.begin));
    addOutput(front);
    find();
    const before = mine.hits.length;
    addOutput(text.slice(front.length));
    find();
    showHit(Math.min(before, mine.hits.length - 1));
  }
  if (mark === undefined) box.scrollTop = last ? box.scrollHeight : 0;
  connect();
}

function addOutput(text) {
  const box = by("output");
  const parts = (out.tail + text).split("\n");
  if (out.open) out.open.remove();
  out.tail = parts.pop();
  const dropped = parts.splice(0, Math.max(0, parts.length - MOST_LINES));
  if (dropped.length) {
    put(box);
    out.begin += out.lines.reduce((sum, each) => sum + each, bytes(dropped.join("\n")) + 1);
    out.lines = [];
  }
  box.append(...parts.map((each) => el("div", { className: "line" }, painted(each, out.style))));
  out.lines.push(...parts.map((each) => bytes(each) + 1));
  out.open = out.tail ? el("div", { className: "line" }, painted(out.tail, new Set(out.style))) : null;
  if (out.open) box.append(out.open);
  while (out.lines.length > MOST_LINES) { box.firstChild.remove(); out.begin += out.lines.shift(); }
  showCut();
  if (out.follow) box.scrollTop = box.scrollHeight;
  if (by("find").value) find();
}

function showCut() {
  put(by("cut"), out.size ? `${number(out.size)} bytes${out.ended ? "" : ", growing"}. ` : out.ended ? "It printed nothing. " : "Nothing printed yet. ",
    out.begin > 0 && el("button", { className: "plain", id: "earlier", onclick: () => showPart(Math.max(0, out.begin - WINDOW), true, undefined, Math.min(WINDOW, out.begin)) }, "Load what came before"));
  by("later").hidden = !out.away;
}

/** Shows only the first and last lines, or all again. */
function fold() {
  const box = by("output");
  const on = !box.classList.contains("folded");
  box.classList.toggle("folded", on);
  press(by("fold"), on);
  box.querySelector(".folds")?.remove();
  const lines = [...box.querySelectorAll(".line")];
  lines.forEach((each, at) => { each.hidden = on && at >= 10 && at < lines.length - 30; });
  const hidden = lines.filter((each) => each.hidden).length;
  if (hidden) lines[9].after(el("button", { className: "plain folds", onclick: fold }, `… ${counted(hidden, "line")} folded, show them`));
}

function find() {
  const wanted = by("find").value.toLowerCase();
  for (const hit of by("output").querySelectorAll("mark")) hit.replaceWith(...hit.childNodes);
  by("output").normalize();
  out.hits = [];
  if (wanted) {
    const walker = document.createTreeWalker(by("output"), NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    for (let text of texts) {
      let at;
      while (out.hits.length < 1000 && (at = text.data.toLowerCase().indexOf(wanted)) >= 0) {
        const rest = text.splitText(at);
        text = rest.splitText(Math.min(wanted.length, rest.length));
        const hit = el("mark", {});
        rest.replaceWith(hit);
        hit.append(rest);
        out.hits.push(hit);
      }
    }
  }
  out.hit = -1;
  const part = out.begin > 0 || out.away ? " here; Enter looks further" : "";
  set(by("hits"), wanted ? `${counted(out.hits.length, "hit")}${part}` : "");
}

/** Goes to the next or previous hit: in what is shown, then in the whole output. */
async function hop(back) {
  const wanted = by("find").value;
  if (!wanted) return;
  const mine = out;
  const next = out.hit < 0 ? (back ? out.hits.length - 1 : 0) : out.hit + (back ? -1 : 1);
  if (out.hits[next]) { showHit(next); return; }
  if (out.begin === 0 && !out.away) { if (out.hits.length) showHit(back ? out.hits.length - 1 : 0); return; }
  set(by("hits"), "looking further");
  for (let at = back ? mine.begin : Math.max(0, mine.end - bytes(wanted) + 1), turned = false; ;) {
    const query = new URLSearchParams({ run: mine.run, q: wanted, offset: at, back: Boolean(back) });
    const reply = await get(`${mine.path}/find?${query}`);
    if (!reply || out !== mine) return;
    const { offset, next: further, size } = reply.form;
    if (offset !== null) { await showPart(Math.max(0, offset - NEAR), false, offset); return; }
    if (further === null && turned) break;
    if (further === null) turned = true;
    at = further ?? (back ? size : 0);
  }
  set(by("hits"), "not found");
}

function showHit(at) {
  out.hits[out.hit]?.classList.remove("now");
  out.hit = at;
  const hit = out.hits[at];
  if (!hit) return;
  hit.classList.add("now");
  out.follow = false;
  press(by("follow"), false);
  hit.closest(".line").hidden = false;
  hit.scrollIntoView({ block: "center" });
  set(by("hits"), `${at + 1} of ${out.hits.length}${out.begin > 0 || out.away ? " here" : ""}`);
}

/** Saves the output unchanged, piece by piece. */
async function download() {
  const mine = out, parts = [], piece = 1 << 20;
  for (let at = 0, size = 1; at < size;) {
    const reply = await attempt(() => ask("GET", `${mine.path}?run=${mine.run}`, undefined, { range: `bytes=${at}-${at + piece - 1}` }).catch((error) => { if (error.status === 416) return null; throw error; }));
    if (!reply) break;
    parts.push(reply.data);
    size = Number(reply.headers.get("x-log-size"));
    at += reply.size;
  }
  const link = el("a", { href: URL.createObjectURL(new Blob(parts, { type: "text/plain" })), download: `${mine.id}.${mine.run}.log` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// -- enqueuing and editing

const FIELDS = [["command", "textarea", "what /bin/sh -c runs", "wide"], ["id", "text", "made up if left out"], ["priority", "number", "lower runs first"],
  ["max_retries", "number", "runs after the first"], ["delay", "time", "from now, like 30s or 2h"], ["timeout", "time", "that a run may take, like 5m"],
  ["tags", "text", "words, separated by commas"],
  ["after", "text", "ids that must be completed first"], ["after_end", "text", "ids that must have ended first"],
  ["every", "time", "like 15m: copies of it run so often"], ["cron", "text", "the same by the clock: 0 3 * * 1-5"], ["tz", "text", "its zone; the server's if left out"],
  ["lock", "text", "names; one running job holds each"], ["unique", "text", "a key that no two live jobs have"],
  ["retry_delay", "time", "before its first retry, like 30s"], ["log_limit", "number", "bytes kept of its output, 0 for all"],
  ["cwd", "text", "folder; the server's if left out"], ["env_file", "text", "file of NAME=VALUE, read at each run"], ["env", "textarea", "NAME=VALUE, one a line", "wide"]];

const USUAL = 7; // fields shown at once
// Left empty: a list is emptied, the others are unset.
const LISTS = ["tags", "lock", "after", "after_end"], UNSET = ["timeout", "cwd", "every", "cron", "tz", "env_file", "retry_delay", "log_limit"];
const FIXED = ["id", "env", "unique"]; // fields that an edit cannot change here
const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };

/** A typed number, or a duration like 1h 30m in seconds; other text unchanged. */
function numeral(text, kind) {
  const parts = kind === "time" ? [...text.trim().matchAll(/(\d+(?:\.\d+)?)\s*([smhd])\s*/gy)] : [];
  if (parts.length && parts.map(([all]) => all).join("") === text.trim()) return parts.reduce((sum, [, count, unit]) => sum + count * UNITS[unit], 0);
  return Number.isFinite(Number(text)) ? Number(text) : text;
}

/** The form for a new job, for an edit of `job`, or for a new job like it (`again`). */
async function form(job = null, again = false) {
  if (!full) return;
  const editing = job && !again;
  const wanted = FIELDS.filter(([name]) => !(editing && FIXED.includes(name)) && !(again && name === "env" && !job?.env));
  const inputs = {}, faults = {};
  const given = () => {
    const found = {};
    for (const [name, kind] of wanted) {
      const text = inputs[name].value;
      if (text.trim() === "") { if (editing && UNSET.includes(name)) found[name] = null; if (editing && LISTS.includes(name)) found[name] = []; continue; }
      if (kind === "number" || kind === "time") found[name] = numeral(text, kind);
      else if (LISTS.includes(name)) found[name] = text.split(",").map((word) => word.trim()).filter(Boolean);
      else if (name === "env") found[name] = Object.fromEntries(text.split("\n").filter((each) => each.trim()).map((each) => { const at = each.indexOf("="); return at < 0 ? [each.trim(), null] : [each.slice(0, at).trim(), each.slice(at + 1)]; }));
      else found[name] = name === "command" ? text : text.trim();
    }
    return found;
  };
  const changed = () => Object.fromEntries(Object.entries(given()).filter(([name, value]) => !editing || JSON.stringify(value) !== JSON.stringify(job[name] ?? (LISTS.includes(name) ? [] : null))));
  const command = () => {
    const wanted = changed();
    if (editing && Object.entries(wanted).some(([name, value]) => value === null || (LISTS.includes(name) && name !== "tags"))) return line("update", JSON.stringify({ id: job.id, ...wanted }));
    const words = editing ? ["update", job.id] : ["enqueue"];
    for (const [name, value] of Object.entries(wanted)) {
      const option = name === "tags" ? "--tag" : `--${name.replaceAll("_", "-")}`;
      if (name === "env") for (const [key, text] of Object.entries(value)) words.push("--env", `${key}=${text ?? ""}`);
      else if (LISTS.includes(name)) {
        for (const word of value) if (!editing || !(job[name] || []).includes(word)) words.push(option, word);
        if (editing && name === "tags") for (const word of job.tags || []) if (!value.includes(word)) words.push("--untag", word);
      }
      else words.push(option, value);
    }
    return line(...words);
  };
  const told = el("code", {}), problem = el("p", { className: "fault", role: "alert" });
  let turn = 0; // an answer to text that has changed or was enqueued since is not shown
  const check = () => {
    set(told, command());
    const mine = ++turn;
    setTimeout(async () => {
      if (mine !== turn) return;
      const body = editing ? { command: job.command, ...changed() } : given();
      const reply = await ask("POST", `${V1}/jobs/check`, body).catch(() => null);
      if (reply && mine === turn) showFaults(reply.form.errors, false);
    }, 250);
  };
  const showFaults = (errors, all) => {
    const names = new Map(errors.map((fault) => [fault.pointer.split("/")[1], fault.detail]));
    for (const [name, input] of Object.entries(inputs)) {
      const fault = names.get(name);
      const show = fault && (all || input.value !== "" || input.touched);
      set(faults[name], show ? fault : "");
      if (show) faults[name].closest("details")?.setAttribute("open", "");
      if (show) input.setAttribute("aria-invalid", "true"); else input.removeAttribute("aria-invalid");
      names.delete(name);
    }
    set(problem, all ? [...names.values()].join(" ") : "");
  };
  await dialog(editing ? `Edit ${job.id}` : "New job", (close) => {
    const fields = wanted.map(([name, kind, meaning, wide]) => {
      const value = job && (editing || name !== "id") ? name === "env" ? "" : LISTS.includes(name) ? (job[name] || []).join(", ") : job[name] ?? "" : "";
      const input = kind === "textarea" ? el("textarea", { rows: name === "command" ? 3 : 2 }) : el("input", { type: "text", inputMode: kind === "number" ? "numeric" : undefined, autocomplete: "off", spellcheck: false });
      input.value = value;
      input.name = name;
      input.setAttribute("aria-describedby", `fault-${name}`);
      if (name === "command") input.setAttribute("autofocus", "");
      input.addEventListener("input", () => { input.touched = true; check(); });
      inputs[name] = input;
      faults[name] = el("small", { className: "fault", id: `fault-${name}` });
      return el("label", { className: wide || "" }, name.replaceAll("_", " "), el("small", {}, meaning), input, faults[name]);
    });
    const submit = async (event) => {
      event.preventDefault();
      turn += 1;
      try {
        if (editing) await ask("PATCH", pathOf(job.id), changed(), { "if-match": job.tag });
        else job = (await ask("POST", `${V1}/jobs`, given())).form;
        tell(editing ? `Job ${job.id} is changed.` : `Job ${job.id} is enqueued.`, command());
        close();
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        showFaults(error.form.errors || [], true);
        set(problem, error.status === 412 ? "The job changed meanwhile. Close this and look again." : error.form.errors ? problem.textContent || error.message : error.message);
      }
    };
    const usual = fields.slice(0, USUAL), rare = fields.slice(USUAL);
    const more = el("details", { open: editing || again }, el("summary", {}, "After other jobs, schedule, locks, folder, variables"), el("div", { className: "fields" }, rare));
    return el("form", { onsubmit: submit, noValidate: true }, el("div", { className: "fields" }, usual), more, problem,
      el("div", { className: "line-of" }, told, copier(command)),
      ends(close, "Cancel", el("button", { className: "main" }, editing ? "Save" : "Enqueue")),
      set(told, command()));
  });
}

async function showSettings() {
  const reply = await get(`${V1}/config`);
  if (!reply) return;
  const { settings, about } = reply.form;
  const inputs = {};
  const text = (value) => (value === null ? "" : Array.isArray(value) ? value.join(", ") : typeof value === "object" ? Object.entries(value).map(([name, most]) => `${name}=${most}`).join(", ") : String(value));
  const changes = () => Object.fromEntries(Object.entries(inputs).filter(([name, input]) => input.value.trim() !== text(settings[name])).map(([name, input]) => {
    const typed = input.value.trim();
    if (typed === "") return [name, null];
    if (Array.isArray(about[name].default)) return [name, typed.split(",").map((word) => word.trim()).filter(Boolean)];
    if (typeof about[name].default === "object" && about[name].default) return [name, Object.fromEntries(typed.split(",").map((word) => word.trim().split("=")).map(([tag, most]) => [tag, Number(most)]))];
    return [name, Number.isFinite(Number(typed)) ? Number(typed) : typed];
  }));
  const command = () => Object.entries(changes()).map(([name, value]) => (value === null ? line("config", "unset", name) : line("config", "set", name, text(value).replaceAll(", ", ",")))).join("\n");
  const told = el("code", {}), problem = el("p", { className: "fault", role: "alert" });
  await dialog("Settings", (close) => el("form", { noValidate: true, onsubmit: async (event) => {
    event.preventDefault();
    const wanted = changes();
    try {
      if (Object.keys(wanted).length) { await ask("PATCH", `${V1}/config`, wanted); tell("The settings are changed.", command()); }
      close();
    } catch (error) { set(problem, error.message); }
  } }, el("div", { className: "fields" }, Object.entries(about).map(([name, { meaning, default: usual }]) => {
    inputs[name] = el("input", { type: "text", value: text(settings[name]), disabled: !full, autocomplete: "off", oninput: () => set(told, command()) });
    return el("label", {}, name, el("small", {}, `${meaning}; ${text(usual) || "none"} if left out`), inputs[name]);
  })), problem, el("div", { className: "line-of" }, told),
  el("div", { className: "ends" }, el("button", { type: "button", onclick: () => close() }, "Close"), full && el("button", { className: "main" }, "Save"))));
}

async function removeFinished() {
  const states = view.states.filter((state) => ["completed", "cancelled", "dead"].includes(state));
  const wanted = states.length ? states : ["completed", "cancelled"];
  const body = { state: wanted, ...(view.q ? { q: view.q } : {}) };
  await many("purge", body, line("purge", ...wanted.flatMap((state) => ["--state", state]), ...(view.q ? ["--match", view.q] : []), "--yes"), `The ${wanted.join(" and ")} jobs`);
  await load();
}

// -- the stream

let position = "", stream = null, fails = 0, paused = false, trouble = "", polling = 0, heard = new Date(), tried = 0, dirty = false, deadSeen = -1;

/** Shows how the page learns of changes. */
function say(how, text) { by("live").dataset.how = how; set(by("live"), text); }

function take(event, data, id) {
  if (id) position = id;
  if (event === "hello") position = data.position;
  else if (event === "resync") { position = data.position; arrived.clear(); load(); loadGroups(); dirty = true; if (view.job) showDrawer(); }
  else if (event === "job") { arrive(data); dirty = true; }
  else if (event === "counts") { standing = data; showStanding(); showEnds(); if (data.jobs.dead !== deadSeen) { deadSeen = data.jobs.dead; soon(); } }
  else if (event === "worker") { workers = data.items; showWorkers(); }
  else if (event === "trouble") { trouble = data.detail; if (standing) verdict(); }
  else if (event === "log" && out && data.id === out.id && data.run === out.run) {
    if (leaping || data.offset !== out.end || data.size - data.next > WINDOW || (!out.follow && out.lines.length >= MOST_LINES)) leap(data.size);
    else if (!out.away) { Object.assign(out, { size: data.size, end: data.next, ended: data.ended }); addOutput(data.text); }
  }
}

/** More is printed than can be shown: shows its end, or nothing more while a person reads. */
let leaping = 0;
function leap(size) {
  Object.assign(out, { size, away: !out.follow });
  showCut();
  if (out.away) connect();
  else leaping = leaping || setTimeout(() => { leaping = 0; if (out?.follow) showPart(-WINDOW, true); }, 1000);
}

let groupsSoon = 0;
function soon() { clearTimeout(groupsSoon); groupsSoon = setTimeout(loadGroups, 300); }

/** Opens the stream, or reopens it with what it should send now. */
async function connect() {
  stream?.abort();
  clearTimeout(polling);
  tried = Date.now();
  if (paused || document.hidden) return;
  const mine = stream = new AbortController();
  const query = new URLSearchParams();
  if (position) query.set("since", position);
  if (out && !out.ended && !out.away) { query.set("log", out.id); query.set("run", out.run); query.set("offset", out.end); }
  try {
    await listen(`${V1}/events?${query}`, "", mine.signal, (event, data, id) => {
      if (mine !== stream) return;
      const back = fails > 0;
      fails = 0;
      heard = new Date(now());
      say("live", "live");
      if (back && standing) verdict();
      take(event, data, id);
    });
  } catch (error) {
    if (mine !== stream || mine.signal.aborted) return;
    if (error instanceof Problem && error.status === 401) { askToken(); say("off", "no token"); return; }
  }
  if (mine !== stream || mine.signal.aborted) return;
  fails += 1;
  const wait = Math.min(16, 2 ** (fails - 1)) * (0.7 + 0.6 * Math.random());
  say("off", fails > 5 ? "polling" : "connecting again");
  if (fails > 5) poll();
  if (standing) verdict();
  polling = setTimeout(connect, wait * 1000);
}

/** Without a stream: the same by requests, which cost little if nothing changed. */
let etag = "";
async function poll() {
  try {
    const reply = await ask("GET", `${V1}/status`, undefined, etag ? { "if-none-match": etag } : {});
    if (reply.status === 304) return;
    etag = reply.headers.get("etag");
    take("counts", reply.form);
    take("worker", (await ask("GET", `${V1}/workers`)).form);
    await load();
  } catch { /* the next one will tell */ }
}

function pause(on) {
  paused = on;
  press(by("pause"), on);
  set(by("pause"), on ? "Go on" : "Pause");
  if (on) { stream?.abort(); clearTimeout(polling); say("paused", "paused"); } else { say("off", "connecting"); connect(); }
}

// -- the address reflects the view

function go(change, replace) {
  const before = { ...view };
  Object.assign(view, change);
  const query = new URLSearchParams();
  for (const state of view.states) query.append("state", state);
  if (view.q) query.set("q", view.q);
  if (view.sort !== "-updated_at") query.set("sort", view.sort);
  if (view.job) query.set("job", view.job);
  const address = location.pathname + (String(query) ? `?${query}` : "");
  if (address !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"]({}, "", address);
  apply(before);
}

function fromAddress() {
  const query = new URLSearchParams(location.search);
  view.states = query.getAll("state").filter((state) => STATES.includes(state));
  view.q = query.get("q") || "";
  view.sort = [...by("sort").options].some((option) => option.value === query.get("sort")) ? query.get("sort") : "-updated_at";
  view.job = query.get("job") || "";
}

function apply(before) {
  if (by("search").value !== view.q) by("search").value = view.q;
  by("sort").value = view.sort;
  showStanding();
  const same = before.q === view.q && before.sort === view.sort && before.states.join() === view.states.join();
  if (!same) { by("scroll").scrollTop = 0; chosen.clear(); showChosen(); load(); }
  if (before.job !== view.job) showDrawer();
}

// -- keys

const KEYS = [["/", "search", () => by("search").focus()], ["j", "next job", () => step(1)], ["k", "job before", () => step(-1)],
  ["Enter", "open the job", null], ["x", "select the job", () => marked && pick(marked, !chosen.has(marked))], ["X", "select up to here", () => marked && pick(marked, true, true)],
  ["r", "retry", () => (chosen.size ? bulk("retry") : current() && one("retry", current()))], ["c", "cancel", () => (chosen.size ? bulk("cancel") : current() && one("cancel", current()))],
  ["e", "edit", () => shown && form(shown)], ["l", "output of the job", async () => { if (!view.job && marked) open(marked); setTimeout(() => by("output")?.focus(), 400); }],
  ["f", "follow the output, or not", () => out && follow(!out.follow)], ["n", "new job", () => form()], ["g d", "dead jobs", () => { go({ states: ["dead"] }); by("dead-title").focus(); }],
  ["g w", "workers", () => by("workers-title").focus()], ["g a", "all jobs", () => filter("all")], ["p", "pause, or go on", () => pause(!paused)], ["t", "dark or light", theme],
  ["s", "settings", showSettings], ["P", "what may start: pauses and limits", showGate], ["?", "this help", showHelp], ["Esc", "back", null]];
const current = () => view.job || marked;

function showHelp() {
  dialog("Keys", (close) => el("div", {}, el("dl", { className: "keys" }, KEYS.flatMap(([key, meaning]) => [el("dt", {}, key.split(" ").map((each) => el("kbd", {}, each))), el("dd", {}, meaning)])),
    el("p", {}, el("label", {}, el("input", { type: "checkbox", checked: keysOn, onchange: (event) => { keysOn = event.target.checked; write("queuectl-keys", keysOn ? "on" : "off"); } }), " Single keys do this; each has a button too.")),
    el("p", { className: "soft" }, `Queue: ${queue}, queuectl ${by("version").textContent}`),
    ends(close, "Close")));
}

let before = "", beforeAt = 0;
function key(event) {
  if (event.key === "Escape" && !by("dialog").open) {
    if (event.target.id === "search") { event.target.blur(); if (view.q) go({ q: "" }, true); }
    else if (view.job) go({ job: "" });
    else if (chosen.size) { chosen.clear(); showChosen(); }
    return;
  }
  if (!keysOn || by("dialog").open || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.matches("input:not([type=checkbox]), textarea, select")) return;
  const typed = before === "g" && Date.now() - beforeAt < 1500 ? `g ${event.key}` : event.key;
  before = event.key;
  beforeAt = Date.now();
  const found = KEYS.find(([name]) => name === typed);
  if (found?.[2]) { event.preventDefault(); found[2](); }
}

// -- start

async function begin() {
  takeToken();
  fromAddress();
  by("search").value = view.q;
  by("sort").value = view.sort;
  const reply = await get(`${V1}/access`);
  if (!reply) { say("off", "no answer"); return; }
  full = reply.form.may.includes("full");
  queue = plain(reply.form.queue);
  setClock(reply.form.time);
  set(by("queue"), queue);
  by("queue").title = queue;
  set(by("version"), reply.form.version);
  by("open").hidden = !reply.form.no_token;
  const hue = [...queue].reduce((sum, sign) => (sum * 31 + sign.charCodeAt(0)) % 360, 7);
  by("strip").style.setProperty("--hue", hue);
  for (const id of ["new", "purge", "start", "stop", "gate"]) by(id).hidden = !full;
  position = (await load()) || "";
  connect();
  loadGroups();
  loadFigures();
  if (view.job) showDrawer();
}

by("new").onclick = () => form();
by("pause").onclick = () => pause(!paused);
by("settings").onclick = showSettings;
by("theme").onclick = theme;
by("help").onclick = showHelp;
by("start").onclick = startWorker;
by("stop").onclick = stopAll;
by("gate").onclick = showGate;
by("purge").onclick = removeFinished;
by("more").onclick = () => (next === "more" ? load() : load(next));
by("moved").onclick = () => { moved.clear(); chosen.clear(); showChosen(); by("scroll").scrollTop = 0; load(); by("jobs-title").focus(); };
by("unselect").onclick = () => { chosen.clear(); showChosen(); };
by("retry-dead").onclick = () => many("retry", { all: true }, "queuectl dlq retry --all", "All dead jobs");
for (const button of document.querySelectorAll("[data-bulk]")) button.onclick = () => bulk(button.dataset.bulk);
let typing = 0;
by("search").oninput = () => { clearTimeout(typing); typing = setTimeout(() => go({ q: by("search").value.trim() }, true), 200); };
by("sort").onchange = () => go({ sort: by("sort").value });
addEventListener("popstate", () => { const old = { ...view }; fromAddress(); apply(old); });
document.addEventListener("keydown", key);
document.addEventListener("visibilitychange", () => { if (document.hidden) { stream?.abort(); clearTimeout(polling); } else if (!paused) connect(); });
setInterval(() => {
  if (document.hidden) return;
  // A sign of life comes every 15 s.
  if (tried && !paused && Math.min(now() - heard, Date.now() - tried) > 40000) { fails += 1; say("off", "connecting again"); connect(); if (standing) verdict(); }
  for (const row of rows.values()) tick(row);
  for (const li of by("workers").querySelectorAll("li[data-id]")) tickWorker(li);
  for (const li of by("groups").querySelectorAll("li[data-id]")) tickGroup(li);
  showMoved();
}, 1000);
setInterval(() => {
  if (document.hidden) return;
  if (dirty && !paused) { dirty = false; loadFigures(); } else if (figures && drawn !== passed()) showFigures();
}, 4000);
begin();
