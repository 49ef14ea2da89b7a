// The page of a UDF: its form runs the call and shows the result. Without this script the form asks
// the server for the same table, as a page.

import { showChart } from "./chart.js";
import { wireCopyButtons } from "./copy.js";
import { clearFaults, fill, query, showFaults, suffix, unreadable } from "./form.js";
import { findPlaces } from "./geometry.js";
import { showMap, suggestColour } from "./map.js";
import { suggestChart } from "./marks.js";
import { wireShare } from "./share.js";
import { renewSnippets, wireSnippets } from "./snippets.js";
import { element, readPreview, showTable } from "./table.js";

const VIEWS = ["table", "chart", "map"];
const MANY = new Intl.NumberFormat("en");
const PAUSE_MS = 250;

const get = (id) => document.getElementById(id);
const form = get("call");
const state = {
  running: null,
  search: location.search,
  table: null,
  places: null,
  shown: new Set(),
};

wireCopyButtons();
wireForm();
wireViews();
wireSnippets();
wireShare();
// A link to a view of the result, and not just to the form, is a wish to see it.
if (VIEWS.includes(location.hash.slice(1))) run({ remember: false });

// ---------------------------------------------------------------------------------------- the form

function wireForm() {
  // The server checks what is typed, in words that all clients get.
  form.noValidate = true;
  get("reset").hidden = form.querySelector(".field") === null;
  get("keys").hidden = false;
  if (/Mac|iP/.test(navigator.platform)) get("keys").firstElementChild.textContent = "⌘";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run({ remember: true });
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    fill(new URLSearchParams());
    follow();
  });
  form.addEventListener("input", follow);
  get("cancel").addEventListener("click", cancel);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run({ remember: true });
    } else if (event.key === "Escape") {
      cancel();
    }
  });
  addEventListener("popstate", () => {
    const view = location.hash.slice(1);
    if (state.search === location.search && (state.table || !VIEWS.includes(view))) {
      if (VIEWS.includes(view)) showView(view);
      return;
    }
    fill(new URLSearchParams(location.search));
    follow();
    if (VIEWS.includes(view)) {
      run({ remember: false });
    } else {
      leave();
      state.search = location.search;
      clear();
      get("bar").classList.add("idle");
    }
  });
}

/** Downloads and snippets follow what is typed. */
function follow() {
  const asked = suffix(query());
  for (const link of get("downloads").querySelectorAll("a")) {
    link.href = `${form.dataset.page}.${link.dataset.extension}${asked}`;
  }
  clearTimeout(state.pause);
  state.pause = setTimeout(
    () => renewSnippets(form.dataset.page + asked, () => asked === suffix(query())),
    PAUSE_MS,
  );
}

// ----------------------------------------------------------------------------------------- running

async function run({ remember, anew = false }) {
  leave();
  const asked = query();
  clear();
  get("bar").classList.remove("idle");
  const halves = unreadable();
  if (halves.length) {
    showProblem({ errors: halves });
    return;
  }
  if (remember) {
    const view = VIEWS.includes(location.hash.slice(1)) ? location.hash : "#table";
    const address = form.dataset.page + suffix(asked) + view;
    const here = location.pathname + location.search + location.hash;
    if (address !== here) history.pushState(null, "", address);
  }
  const controller = new AbortController();
  state.running = { controller, stop: showWorking() };
  state.search = location.search;
  try {
    const answer = await fetch(`${form.action}${suffix(asked)}`, {
      signal: controller.signal,
      headers: { Accept: "application/json" },
      // Asked again, a stored result costs a look at its hash.
      cache: anew ? "reload" : "no-cache",
    });
    if (answer.ok) await showResult(answer);
    else showProblem(await readProblem(answer));
  } catch (error) {
    if (state.running?.controller !== controller) return;
    if (error.name === "AbortError") {
      say("Cancelled.");
    } else {
      const detail = `${error.message}. Is it running, and reachable from here?`;
      showProblem({ title: "The server did not answer", detail });
    }
  } finally {
    if (state.running?.controller === controller) leave();
  }
}

/** Have done with what runs, if anything does. */
function leave() {
  const { running } = state;
  state.running = null;
  running?.controller.abort();
  running?.stop();
}

/** Let what runs end, and say so. */
function cancel() {
  state.running?.controller.abort();
}

async function readProblem(answer) {
  try {
    return await answer.json();
  } catch {
    return {
      title: `Status ${answer.status}`,
      detail: "What answered is not Webfoot: a proxy in between, perhaps.",
    };
  }
}

/** Show that something is under way and for how long; returns how to stop that. */
function showWorking() {
  const started = performance.now();
  const clock = get("clock");
  const tick = () => (clock.textContent = `${((performance.now() - started) / 1000).toFixed(1)} s`);
  tick();
  const timer = setInterval(tick, 100);
  const focused = document.activeElement === get("run");
  say("Running");
  get("run").disabled = true;
  get("working").hidden = false;
  get("cancel").hidden = false;
  if (focused) get("cancel").focus();
  form.setAttribute("aria-busy", "true");
  return () => {
    clearInterval(timer);
    clock.textContent = "";
    get("working").hidden = true;
    const back = document.activeElement === get("cancel");
    get("run").disabled = false;
    if (back) get("run").focus();
    get("cancel").hidden = true;
    form.removeAttribute("aria-busy");
  };
}

function say(text) {
  get("said").textContent = text;
}

/** Empty everything that a run has shown. */
function clear() {
  say("");
  state.table = null;
  state.places = null;
  state.shown.clear();
  get("problem").hidden = true;
  get("strange").hidden = true;
  get("origin").hidden = true;
  get("views").hidden = true;
  for (const view of VIEWS) get(`view-${view}`).hidden = true;
  clearFaults();
}

// ------------------------------------------------------------------------------------------ errors

function showProblem(problem) {
  const faults = problem.errors ?? [];
  const { shown, others } = showFaults(faults);
  if (shown) say(shown === 1 ? "One parameter is wrong." : `${shown} parameters are wrong.`);
  if (faults.length && !others.length) return;
  const box = get("problem");
  box.replaceChildren(
    element("strong", { textContent: problem.title ?? "It failed" }),
    element("p", {
      className: "text",
      textContent: others.length ? others.join("\n") : (problem.detail ?? ""),
    }),
  );
  if (problem.failures) box.append(listFailures(problem.failures));
  if (problem.traceback) {
    const trace = element("pre", { textContent: problem.traceback, tabIndex: 0 });
    trace.setAttribute("aria-label", "Traceback");
    box.append(trace);
  }
  if (problem.run) {
    const link = element("p");
    link.append(runLink(problem.run));
    box.append(link);
  }
  box.hidden = false;
  say("It failed.");
  box.focus();
}

function listFailures(failures) {
  const list = element("ul");
  for (const { index, input, problem } of failures.slice(0, 20)) {
    const text = `Input ${index}, ${JSON.stringify(input)}: ${problem?.detail ?? "failed"}`;
    list.append(element("li", { textContent: text }));
  }
  return list;
}

function runLink(id) {
  const link = element("a", { href: form.dataset.runs + encodeURIComponent(id) });
  link.append("run ", element("code", { textContent: id }));
  return link;
}

// --------------------------------------------------------------------------------------- the result

async function showResult(answer) {
  const table = readPreview(await answer.text());
  state.table = table;
  state.places = findPlaces(table);
  state.chart = suggestChart(table, new Set(state.places?.columns));
  state.map = state.places && { colour: suggestColour(table, state.places) };
  const shown = table.rows.length;
  const all = Number(answer.headers.get("x-webfoot-rows")) || null;
  const cut = all ? `First ${MANY.format(shown)} of ${count(all, "row")}` : `First ${shown} rows`;
  const rows = table.cut ? cut : count(shown, "row");
  say(`${rows}, ${count(table.columns.length, "column")}`);
  showOrigin(answer.headers);
  get("views").hidden = false;
  get("tab-chart").hidden = !state.chart || shown === 0;
  get("tab-map").hidden = !state.places;
  const geojson = get("downloads").querySelector("[data-extension=geojson]");
  if (geojson) geojson.hidden = !state.places;
  const wanted = location.hash.slice(1);
  showView(VIEWS.includes(wanted) && !get(`tab-${wanted}`).hidden ? wanted : "table");
  reveal(get("bar"));
}

function count(number, name) {
  return `${MANY.format(number)} ${name}${number === 1 ? "" : "s"}`;
}

/** Scroll to what is below the window: on a phone, the result is below the form. */
function reveal(node) {
  if (node.getBoundingClientRect().top < innerHeight - 100) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  node.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

/** Say where a result comes from: a run just now, or the store. */
function showOrigin(headers) {
  const origin = get("origin");
  const id = headers.get("x-webfoot-run");
  const ran = /run;dur=([\d.]+)/.exec(headers.get("server-timing") ?? "");
  const made = Date.parse(headers.get("last-modified"));
  origin.replaceChildren();
  if (ran) origin.append(`Ran for ${writeDuration(Number(ran[1]))}`);
  else origin.append(`Stored${Number.isFinite(made) ? `, made ${ago(Date.now() - made)}` : ""}`);
  if (id) origin.append(" · ", runLink(id));
  const executions = headers.get("x-webfoot-executions");
  const times = executions === "1" ? "once" : `${executions} times`;
  if (executions) origin.append(` · run ${times} so far`);
  if (!ran) {
    const again = element("button", {
      type: "button",
      className: "plain",
      textContent: "Run it anew",
    });
    again.addEventListener("click", () => {
      // This button goes away while it runs.
      get("run").focus();
      run({ remember: false, anew: true });
    });
    origin.append(" · ", again);
  }
  origin.hidden = false;
}

function writeDuration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

function ago(ms) {
  const minutes = Math.round(ms / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h ago` : `${Math.round(hours / 24)} days ago`;
}

// ------------------------------------------------------------------------------------------- views

function wireViews() {
  const tabs = VIEWS.map((view) => get(`tab-${view}`));
  for (const view of VIEWS) {
    get(`tab-${view}`).addEventListener("click", () => {
      showView(view);
      // Sharing the address shares the view.
      history.replaceState(null, "", `${location.pathname}${location.search}#${view}`);
    });
  }
  get("views").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const usable = tabs.filter((tab) => !tab.hidden);
    const next =
      usable[(usable.indexOf(document.activeElement) + step + usable.length) % usable.length];
    event.preventDefault();
    next.focus();
    next.click();
  });
}

function showView(wanted) {
  for (const view of VIEWS) {
    const tab = get(`tab-${view}`);
    tab.setAttribute("aria-selected", String(view === wanted));
    tab.tabIndex = view === wanted ? 0 : -1;
    get(`view-${view}`).hidden = view !== wanted;
  }
  if (state.shown.has(wanted)) return;
  state.shown.add(wanted);
  const { table } = state;
  if (wanted === "table") showTable(get("view-table"), table, get("said").textContent);
  else if (wanted === "chart") showChart(get("view-chart"), table, state.chart);
  else showMap(get("view-map"), table, state.places, state.map);
}
