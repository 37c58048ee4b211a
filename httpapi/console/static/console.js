// What pages do in place. Everything works without it: forms are sent and links are followed by
// the browser itself.
"use strict";

// The server shows times in the zone that this cookie names.
document.cookie = "ezapi-zone=" + Intl.DateTimeFormat().resolvedOptions().timeZone +
  ";path=/;max-age=31536000;samesite=lax" + (location.protocol === "https:" ? ";secure" : "");

// load fetches a page and puts its main part in the place of the present one.
let loading = null;
async function load(url, options, history) {
  const main = document.getElementById("main");
  if (loading) loading.abort();
  loading = new AbortController();
  main.classList.add("wait");
  try {
    const response = await fetch(url, { ...options, signal: loading.signal, credentials: "same-origin" });
    if (response.status === 401 && options && options.method === "POST") { // what was typed stays
      main.classList.remove("wait");
      alert(document.body.dataset.ended);
      return;
    }
    if (!(response.headers.get("Content-Type") || "").startsWith("text/html")) throw new Error("no page");
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const next = page.getElementById("main");
    if (!next || page.body.className !== document.body.className) throw new Error("another frame");
    const active = document.activeElement;
    const field = active && active.closest(".filters") ? active.name : "";
    const caret = field && active.selectionStart;
    if (history) window.history[history + "State"]({}, "", response.url);
    for (const base of document.querySelectorAll("base")) base.setAttribute("href", page.querySelector("base").getAttribute("href"));
    for (const part of ["main", "nav", "top"]) {
      const old = document.getElementById(part), fresh = page.getElementById(part);
      if (old && fresh) old.replaceWith(fresh);
    }
    document.title = page.title;
    document.documentElement.lang = page.documentElement.lang;
    const theme = page.documentElement.dataset.theme;
    if (theme) document.documentElement.dataset.theme = theme; else delete document.documentElement.dataset.theme;
    enhance();
    const again = field && document.querySelector(".filters [name=" + CSS.escape(field) + "]");
    if (again) {
      again.focus();
      if (caret != null && again.setSelectionRange && again.type === "search") again.setSelectionRange(caret, caret);
    } else {
      const target = document.querySelector("[data-focus]") || document.getElementById("main");
      target.focus({ preventScroll: true });
      window.scrollTo(0, 0);
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    main.classList.remove("wait");
    if (options && options.method === "POST") { alert(document.body.dataset.failed); return; }
    location.assign(url);
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target, button = event.submitter;
  if (form.dataset.plain !== undefined || event.defaultPrevented) return;
  event.preventDefault();
  const data = new FormData(form, button);
  const action = new URL((button && button.getAttribute("formaction")) || form.getAttribute("action") || location.href, document.baseURI);
  if (form.method === "post") {
    const buttons = [...form.elements].filter((e) => e.type === "submit");
    for (const b of buttons) b.disabled = true;
    const body = form.enctype === "multipart/form-data" ? data : new URLSearchParams(data);
    load(action, { method: "POST", body }, "push").finally(() => {
      for (const b of buttons) b.disabled = false;
    });
    return;
  }
  const query = new URLSearchParams();
  for (const [name, value] of data) if (value !== "") query.append(name, value);
  action.search = query;
  load(action, null, form.classList.contains("filters") && !event.submitter ? "replace" : "push");
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || link.dataset.plain !== undefined || link.target || url.hash) return;
  event.preventDefault();
  load(url, null, "push");
});

window.addEventListener("popstate", () => load(location.href));

// Filters answer while they are typed.
let typing;
document.addEventListener("input", (event) => {
  const form = event.target.closest("form.filters");
  if (!form || form.dataset.explicit !== undefined) return;
  clearTimeout(typing);
  typing = setTimeout(() => form.requestSubmit(), event.target.tagName === "SELECT" ? 0 : 350);
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = button.dataset.done;
});

// A part that is not at its end asks again: every second at first, and then less often.
function poll(part, pause) {
  setTimeout(async () => {
    if (!part.isConnected) return;
    try {
      const response = await fetch(new URL(part.dataset.poll, document.baseURI), { headers: { "X-Console-Fragment": "1" } });
      if (response.status === 401) return location.reload();
      if (response.ok) {
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const fresh = page.body.firstElementChild;
        if (fresh) { part.replaceWith(fresh); part = fresh; }
      }
    } catch { /* the server is away, and is asked again */ }
    if (part.dataset.poll) poll(part, Math.min(pause * 1.3, 15000));
  }, pause);
}

// Parts that follow what is typed, such as what a selector hits.
function follow(part) {
  const form = part.closest("form");
  let pause;
  const refresh = async () => {
    const query = new URLSearchParams();
    for (const name of part.dataset.fields.split(" ")) query.set(name, form.elements[name] ? form.elements[name].value : "");
    const response = await fetch(new URL(part.dataset.follow + "?" + query, document.baseURI), { headers: { "X-Console-Fragment": "1" } });
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    part.replaceChildren(...page.body.children);
  };
  form.addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(refresh, 300); });
  refresh();
}

function enhance() {
  for (const part of document.querySelectorAll("[data-poll]:not([data-on])")) { part.dataset.on = ""; poll(part, 1000); }
  for (const part of document.querySelectorAll("[data-follow]:not([data-on])")) { part.dataset.on = ""; follow(part); }
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
}
enhance();
