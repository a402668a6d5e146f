/* The page's behaviour. Whatever the model or the user writes becomes a text node, never markup. */

const DEFAULTS = { temperature: 0.8, top_p: 0.95, top_k: 0, repetition_penalty: 1.1, max_tokens: 256, seed: "", "stop-text": "", system: "" };
const $ = (id) => document.getElementById(id);
const store = {
  get(key, otherwise) { try { return JSON.parse(localStorage.getItem("haina." + key)) ?? otherwise; } catch { return otherwise; } },
  set(key, value) { try { localStorage.setItem("haina." + key, JSON.stringify(value)); } catch { /* private window */ } },
};
const state = {
  language: store.get("language", (navigator.language || "").startsWith("zh") ? "zh" : "en"),
  theme: store.get("theme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
  settings: { ...DEFAULTS, ...store.get("settings", {}) },
  mode: "continue", card: null, messages: [], abort: null,
};
const say = (key, ...values) => { const text = TEXTS[state.language][key]; return typeof text === "function" ? text(...values) : text; };

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/* ---- words, theme, settings ---- */

function showTexts() {
  document.documentElement.lang = state.language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = say(node.dataset.t);
  const chat = state.mode === "chat";
  $("input").placeholder = say(chat ? "placeholderChat" : "placeholderContinue");
  $("input").setAttribute("aria-label", $("input").placeholder);
  $("empty-title").textContent = say(chat ? "emptyChat" : "emptyContinue");
  $("empty-text").textContent = say(chat ? "emptyChatText" : "emptyContinueText");
  $("language").textContent = state.language === "zh" ? "EN" : "中文";
  $("language").lang = state.language === "zh" ? "en" : "zh-CN";
  for (const [id, key] of [["send", "send"], ["stop", "stop"], ["theme", "theme"], ["language", "language"], ["close-settings", "close"], ["new", "new"], ["open-settings", "settings"]]) {
    $(id).title = say(key);
    $(id).setAttribute("aria-label", say(key));
  }
  $("modes").setAttribute("aria-label", say("modes"));
  $("seed").placeholder = say("seedPlaceholder");
  $("ideas").replaceChildren(...say(chat ? "ideasChat" : "ideasContinue").map((idea) => {
    const button = element("button", "", idea);
    button.type = "button";
    button.addEventListener("click", () => { $("input").value = idea; grow(); submit(); });
    return button;
  }));
  if (state.card) {
    $("model-name").removeAttribute("data-t");
    $("model-name").textContent = state.card.id;
    $("model-window").textContent = say("window", state.card.context_length.toLocaleString("en"));
    $("about").textContent = $("model").title = state.card.description;
  }
}

function showTheme() { document.documentElement.dataset.theme = state.theme; }

function showSettings() {
  for (const [id, value] of Object.entries(state.settings)) $(id).value = value;
  for (const output of document.querySelectorAll("output")) output.textContent = $(output.htmlFor.value).value;
}

function readSettings() {
  for (const id of Object.keys(DEFAULTS)) state.settings[id] = $(id).value;
  for (const output of document.querySelectorAll("output")) output.textContent = $(output.htmlFor.value).value;
  store.set("settings", state.settings);
}

function openSettings(open) {
  $("settings").hidden = !open;
  $("open-settings").setAttribute("aria-expanded", String(open));
  (open ? $("close-settings") : $("input")).focus();
}

function setMode(mode) {
  state.mode = mode;
  document.querySelector(`input[name=mode][value=${mode}]`).checked = true;
  $("system-control").hidden = mode !== "chat";
  showTexts();
}

/* ---- talking to the server ---- */

function sampling() {
  const settings = state.settings;
  const body = { model: state.card.id, stream: true, stream_options: { include_usage: true } };
  for (const name of ["temperature", "top_p", "repetition_penalty"]) body[name] = Number(settings[name]);
  body.top_k = Math.trunc(Number(settings.top_k));
  body.max_tokens = Math.max(1, Math.trunc(Number(settings.max_tokens) || DEFAULTS.max_tokens));
  if (String(settings.seed).trim() !== "") body.seed = Math.trunc(Number(settings.seed));
  const stops = settings["stop-text"].split("|").map((text) => text.replaceAll("\\n", "\n")).filter(Boolean);
  if (stops.length) body.stop = stops;
  return body;
}

/* Yields the JSON of each server-sent event. */
async function* events(url, body, signal) {
  let response;
  try {
    response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(say("unreachable"));
  }
  if (!response.ok) throw new Error((await response.json().catch(() => null))?.error?.message ?? response.statusText);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

async function connect() {
  try {
    const { data } = await (await fetch("/v1/models")).json();
    state.card = data[0];
    $("dot").className = "dot on";
    $("notice").hidden = state.card.kind !== "base";
    setMode(state.card.kind === "base" ? "continue" : "chat");
    update();
  } catch {
    $("dot").className = "dot off";
    $("model-name").dataset.t = "offline";
    showTexts();
    setTimeout(connect, 2000);
  }
}

/* ---- the conversation ---- */

const nearEnd = () => $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 90;
const toEnd = () => { $("log").scrollTop = $("log").scrollHeight; };

function update() {
  const busy = state.abort !== null;
  $("stop").hidden = !busy;
  $("send").hidden = busy;
  $("send").disabled = !state.card || !$("input").value.trim();
}

function button(key, action) {
  const node = element("button", "", say(key));
  node.type = "button";
  node.dataset.t = key;
  node.addEventListener("click", () => action(node));
  return node;
}

function copyButton(read) {
  return button("copy", async (node) => {
    try { await navigator.clipboard.writeText(read()); node.dataset.t = "copied"; } catch { return; }
    node.textContent = say("copied");
    setTimeout(() => { node.dataset.t = "copy"; node.textContent = say("copy"); }, 1500);
  });
}

/* Streams one answer into `turn`; returns its text. `pick` takes the new text out of a choice. */
async function write(turn, url, body, pick) {
  const written = turn.querySelector(".written");
  const waiting = element("span", "waiting", say("thinking"));
  turn.append(waiting);
  turn.classList.add("writing");
  state.abort = new AbortController();
  update();
  const result = { text: "", reason: null, tokens: 0, seconds: 0, error: null };
  let first = 0;
  try {
    for await (const event of events(url, body, state.abort.signal)) {
      const stick = nearEnd();
      const choice = event.choices[0];
      if (choice) {
        const piece = pick(choice);
        if (piece) {
          first ||= performance.now();
          waiting.remove();
          written.append(piece);
          result.text += piece;
        }
        result.reason = choice.finish_reason ?? result.reason;
      }
      if (event.usage) result.tokens = event.usage.completion_tokens;
      if (stick) toEnd();
    }
  } catch (error) {
    if (error.name === "AbortError") result.reason = "stopped";
    else result.error = error.message;
  }
  result.seconds = first ? (performance.now() - first) / 1000 : 0;
  waiting.remove();
  turn.classList.remove("writing");
  state.abort = null;
  if (!result.text && !result.error) written.append(say("empty"));
  return result;
}

function finish(turn, result, ...buttons) {
  if (result.error) turn.append(element("div", "error", `${say("failed")}: ${result.error}`));
  const facts = [];
  if (result.tokens) facts.push(say("tokens", result.tokens));
  if (result.tokens > 1 && result.seconds > 0) facts.push(say("speed", ((result.tokens - 1) / result.seconds).toFixed(1)));
  if (result.reason) facts.push(say({ stop: "end", length: "length", stopped: "stopped" }[result.reason] ?? "end"));
  const foot = element("div", "foot");
  foot.append(...buttons, element("span", "facts", facts.join(" · ")));
  turn.append(foot);
  update();
  if (nearEnd()) toEnd();
  $("input").focus();
}

async function continueText(prompt) {
  const turn = element("article", "turn passage");
  const text = element("div", "text");
  text.append(element("span", "given", prompt), element("span", "written"));
  turn.append(text);
  $("log").append(turn);
  toEnd();
  const result = await write(turn, "/v1/completions", { ...sampling(), prompt }, (choice) => choice.text);
  const whole = () => prompt + result.text;
  const unlessBusy = (action) => () => { if (!state.abort) action(); };
  finish(turn, result, copyButton(whole),
    button("again", unlessBusy(() => continueText(prompt))),
    button("goOn", unlessBusy(() => continueText(whole()))));
}

async function answer() {
  const turn = element("article", "turn model-turn");
  const text = element("div", "text");
  text.append(element("span", "written"));
  turn.append(element("div", "who", state.card.id), text);
  $("log").append(turn);
  toEnd();
  const conversation = state.messages; // "New" starts another while this one may still be ending
  const asked = conversation.length;
  const system = state.settings.system.trim();
  const messages = [...(system ? [{ role: "system", content: system }] : []), ...conversation];
  const result = await write(turn, "/v1/chat/completions", { ...sampling(), messages }, (choice) => choice.delta?.content);
  if (result.text) conversation.push({ role: "assistant", content: result.text });
  finish(turn, result, copyButton(() => result.text), button("again", () => {
    if (state.abort) return;
    // Everything after the question goes, on the screen as in the conversation.
    while (turn.nextSibling) turn.nextSibling.remove();
    turn.remove();
    conversation.length = asked;
    answer();
  }));
}

function submit() {
  const text = $("input").value;
  if (!text.trim() || state.abort || !state.card) return;
  $("input").value = "";
  grow();
  $("empty").hidden = true;
  if (state.mode === "continue") { continueText(text); return; }
  const turn = element("article", "turn user");
  turn.append(element("div", "text", text));
  $("log").append(turn);
  state.messages.push({ role: "user", content: text });
  answer();
}

function clear() {
  state.abort?.abort();
  state.messages = [];
  for (const turn of document.querySelectorAll(".turn")) turn.remove();
  $("empty").hidden = false;
  $("input").focus();
}

function grow() {
  $("input").style.height = "auto";
  $("input").style.height = `${$("input").scrollHeight}px`;
  update();
}

/* ---- hands on ---- */

$("composer").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
$("input").addEventListener("input", grow);
$("input").addEventListener("keydown", (event) => {
  // Enter that confirms a candidate of an input method must not send.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) { event.preventDefault(); submit(); }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing) return;
  if (state.abort) state.abort.abort();
  else if (!$("settings").hidden) openSettings(false);
});
$("stop").addEventListener("click", () => state.abort?.abort());
$("new").addEventListener("click", clear);
$("language").addEventListener("click", () => { state.language = state.language === "zh" ? "en" : "zh"; store.set("language", state.language); showTexts(); });
$("theme").addEventListener("click", () => { state.theme = state.theme === "dark" ? "light" : "dark"; store.set("theme", state.theme); showTheme(); });
$("open-settings").addEventListener("click", () => openSettings($("settings").hidden));
$("close-settings").addEventListener("click", () => openSettings(false));
$("settings").addEventListener("input", readSettings);
$("reset").addEventListener("click", () => { state.settings = { ...DEFAULTS }; store.set("settings", state.settings); showSettings(); });
for (const radio of document.querySelectorAll("input[name=mode]")) radio.addEventListener("change", () => { clear(); setMode(radio.value); });

showTheme();
showSettings();
setMode("continue");
connect();
