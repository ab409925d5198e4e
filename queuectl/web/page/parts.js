// The parts of all our pages: elements, requests, the stream, times, shell words, output.

const TOKEN = "queuectl-token";
export const STATES = ["pending", "in_progress", "failed", "dead", "completed", "cancelled"];
export const MARKS = { pending: "○", in_progress: "▶", failed: "↻", dead: "✖", completed: "✔", cancelled: "⊘",
  started: "▶", retried: "↺", stopped: "■", lost: "?" };
export const NAMES = { in_progress: "running" };

/** An element; a property that begins with "on" is a listener, one with a dash or null is an attribute. */
export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.includes("-") && name !== "list") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const by = (id) => document.getElementById(id);
export const put = (where, ...children) => where.replaceChildren(...children.flat().filter(Boolean));

/** The error of a request, in the words of the server. */
export class Problem extends Error {
  constructor(status, form) {
    super(form.detail || "The server did not answer.");
    this.status = status;
    this.form = form;
  }
}

// The token follows the # of the link, which no server and no other page ever sees.
export function takeToken() {
  const given = /^#token=([\w-]+)$/.exec(location.hash);
  if (!given) return;
  setToken(given[1]);
  history.replaceState(history.state, "", location.pathname + location.search);
}
export const setToken = (token) => sessionStorage.setItem(TOKEN, token);

function heads(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { authorization: `Bearer ${token}`, ...more } : more;
}

/** A request: {status, headers, form, text, data: its bytes, size: how many}. Throws Problem. */
export async function ask(method, path, body, more = {}) {
  const how = { method, headers: heads(more), cache: "no-store" };
  if (body !== undefined) {
    how.body = JSON.stringify(body);
    how.headers["content-type"] = "application/json";
  }
  let reply, data;
  try { reply = await fetch(path, how); data = await reply.arrayBuffer(); } catch { throw new Problem(0, { detail: "The server does not answer." }); }
  const kind = reply.headers.get("content-type") || "";
  const text = new TextDecoder().decode(data);
  const form = kind.includes("json") && text ? JSON.parse(text) : undefined;
  if (reply.status >= 400) throw new Problem(reply.status, form || { detail: text.slice(0, 500) });
  return { status: reply.status, headers: reply.headers, form, text, data, size: data.byteLength };
}

/** Reads server-sent events until the stream ends or `signal` says so; `take(event, data, id)`. */
export async function listen(path, last, signal, take) {
  const reply = await fetch(path, { headers: heads(last ? { "last-event-id": last } : {}), signal, cache: "no-store" });
  if (!reply.ok) throw new Problem(reply.status, await reply.json().catch(() => ({})));
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    kept += value;
    let end;
    while ((end = kept.indexOf("\n\n")) >= 0) {
      const lines = Object.fromEntries(kept.slice(0, end).split("\n").map((line) => {
        const at = line.indexOf(": ");
        return [line.slice(0, at), line.slice(at + 2)];
      }));
      kept = kept.slice(end + 2);
      take(lines.event || "", lines.data ? JSON.parse(lines.data) : null, lines.id);
    }
  }
}

// -- times: those of the server, whatever this machine's clock says

let ahead = 0;
export const setClock = (seconds) => { ahead = seconds * 1000 - Date.now(); };
export const now = () => Date.now() + ahead;
export const seconds = (text) => Date.parse(text) / 1000;

/** Seconds in at most two units. */
export function span(total) {
  if (total === null || total === undefined || Number.isNaN(total)) return "–";
  if (total < 1) return `${Math.max(0, Math.round(total * 1000))} ms`;
  if (total < 10) return `${Math.round(total * 10) / 10} s`;
  const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const at = units.findIndex(([size]) => total >= size);
  const [size, name] = units[at];
  const first = Math.floor(total / size);
  const next = units[at + 1];
  const rest = next ? Math.floor((total - first * size) / next[0]) : 0;
  return rest ? `${first}${name} ${rest}${next[1]}` : `${first} ${name}`;
}
export const since = (text) => Math.max(0, now() / 1000 - seconds(text));
export const ago = (text) => (since(text) < 1 ? "now" : span(Math.floor(since(text))));
export function clock(text) {
  const at = new Date(text);
  const time = at.toLocaleTimeString([], { hour12: false });
  return Math.abs(now() - at) < 43200000 ? time : `${at.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" })} ${time}`;
}
export const number = (value) => value.toLocaleString("en");
export const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

// -- the command line that does the same

export const quote = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
export const line = (...words) => ["queuectl", ...words.map(String).map(quote)].join(" ");

/** Copies a text to the clipboard, even if the page is not served by https. */
export async function copy(text) {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* not allowed here */ }
  const area = el("textarea", { value: text, className: "unseen" });
  (document.querySelector("dialog[open]") || document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
export const copier = (text) => el("button", { type: "button", onclick: async (event) => {
  event.target.textContent = (await copy(typeof text === "function" ? text() : text)) ? "Copied" : "Select it";
} }, "Copy");
/** A command line with a copy button. */
export const lineOf = (text) => el("div", { className: "line-of" }, el("code", {}, text), copier(text));

// -- output: text with colours; other control sequences are shown or dropped

const ODD = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
const ESCAPES = /\u001b\[([0-9;:?<=>]*)[ -/]*([@-~])|\u001b[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[ -/]*[0-~]/g;
export const plain = (text) => text.replace(ODD, (sign) => (sign < " " ? String.fromCharCode(0x2400 + sign.charCodeAt(0))
  : `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`));

/** One line of output as nodes; `style`: a set of classes that continues from line to line. */
export function painted(text, style) {
  const nodes = [];
  const add = (part) => {
    if (part) nodes.push(style.size ? el("span", { className: [...style].join(" ") }, plain(part)) : plain(part));
  };
  const shown = text.replace(/\r+$/, "").split("\r").pop();
  let at = 0;
  for (const found of shown.matchAll(ESCAPES)) {
    add(shown.slice(at, found.index));
    at = found.index + found[0].length;
    if (found[2] === "m") paint(found[1], style);
  }
  add(shown.slice(at));
  return nodes;
}

function paint(codes, style) {
  for (const code of codes.split(/[;:]/).map(Number)) {
    if (code === 0) style.clear();
    else if (code === 22) { style.delete("c1"); style.delete("c2"); }
    else if (code === 39 || (code >= 30 && code <= 37) || (code >= 90 && code <= 97)) {
      for (const name of style) if (/^c[39]\d$/.test(name)) style.delete(name);
      if (code !== 39) style.add(`c${code}`);
    } else if (code >= 1 && code <= 4) style.add(`c${code}`);
    else if (code === 38 || code === 48) return; // colours of a larger palette: left as they are
  }
}

// -- dialogs

/** The end of a dialog: its leave button, which has the focus unless an earlier part has, and more. */
export const ends = (close, name, ...more) => el("div", { className: "ends" },
  el("button", { type: "button", autofocus: true, onclick: () => close() }, name), ...more);

/** Opens the one dialog; the promise gives what `close(value)` was called with, undefined for Escape. */
export function dialog(title, build) {
  const box = by("dialog");
  const back = document.activeElement;
  return new Promise((resolve) => {
    let answer;
    const close = (value) => { answer = value; box.close(); };
    put(box, el("h2", { id: "dialog-title" }, title), build(close));
    box.onclose = () => { put(box); if (back && back.isConnected) back.focus(); resolve(answer); };
    if (!box.open) box.showModal();
    (box.querySelector("[autofocus]") || box).focus();
  });
}

export function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("queuectl-theme", root.dataset.theme); } catch { /* it holds for this page */ }
}

/** Asks for the token if the page has none; reloads with it. */
export function askToken(why) {
  dialog("This page needs the token of its server", (close) => el("form", { onsubmit: (event) => {
    event.preventDefault();
    setToken(event.target.elements.token.value.trim().replace(/^Authorization: Bearer /i, ""));
    location.reload();
  } },
  el("p", {}, why || "Open the link that 'queuectl serve' printed, or type 'queuectl dashboard', or paste the token here."),
  el("div", { className: "fields" }, el("label", { className: "wide" }, "Token",
    el("input", { name: "token", type: "password", autocomplete: "off", required: true, autofocus: true }))),
  ends(close, "Cancel", el("button", { className: "main" }, "Open"))));
}
