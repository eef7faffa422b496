"use strict";

const $ = (id) => document.getElementById(id);
let asked = JSON.parse(sessionStorage.getItem("asked") || "[]");
let asking = null; // the question under way can be given up

// Everything that comes from passages or people goes in as text, never as HTML.
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

function showError(sentence) {
  $("error").textContent = sentence;
  $("error").hidden = !sentence;
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(said.error || `The server answered with ${response.status}.`);
  return said;
}

function cite(number) {
  return element("a", { href: `#card-${number}`, className: "cite", textContent: `[${number}]` });
}

// A language model's answer as it is so far: its [n] become links.
function withCitations(text, numbers) {
  return text.split(/(\[\d+\])/).map((part) => {
    const number = Number((part.match(/^\[(\d+)\]$/) || [])[1]);
    return numbers.has(number) ? cite(number) : document.createTextNode(part);
  });
}

function card(one) {
  const percent = Math.round(one.probability * 100);
  const meter = element("meter", { min: 0, max: 1, value: one.probability });
  meter.setAttribute("aria-label", `Probability ${percent} %`);
  const link = one.link && element("a", { href: one.link, rel: "noreferrer", target: "_blank", textContent: "PubMed" });
  const facts = element("div", { className: "facts" },
    element("span", { className: "probability" }, meter, `${percent} %`),
    one.year ? element("span", { textContent: one.year }) : null,
    link || null,
    place(one),
    one.retracted ? element("span", { className: "retracted", textContent: "Retracted" }) : null,
    one.truncated ? element("span", { textContent: "long: partly read" }) : null);
  const text = element("p", {}, ...one.parts.map((part) => element(part.evidence ? "mark" : "span", { textContent: part.text })));
  return element("article", { id: `card-${one.number}`, className: "card", tabIndex: -1 },
    element("h3", { textContent: `[${one.number}] ${one.title}` }), facts, text, references(one.references));
}

// Where a passage stands; a PDF of one's own opens there, in a new tab.
function place(one) {
  if (one.opens) return element("a", { className: "opens", href: one.opens, rel: "noreferrer", target: "_blank", textContent: one.place });
  return one.place ? element("span", { textContent: one.place }) : null;
}

// The full reference, and a button for each form in which it can be taken along.
function references(forms) {
  const buttons = Object.entries(forms).map(([name, text]) => {
    const button = element("button", { type: "button", className: "quiet", textContent: `Copy ${name}` });
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = `Copied ${name}`;
    });
    return button;
  });
  return element("details", { className: "reference" },
    element("summary", { textContent: "Reference" }), element("p", { textContent: forms.Text }), element("p", {}, ...buttons));
}

// Questions asked in this tab; each has an address that can be shared or gone back to.
function remember(question) {
  const address = `?q=${encodeURIComponent(question)}`;
  if (location.search !== address) history.pushState(null, "", address);
  asked = [question, ...asked.filter((one) => one !== question)].slice(0, 20);
  sessionStorage.setItem("asked", JSON.stringify(asked));
  showAsked();
}

function showAsked() {
  $("asked-heading").hidden = !asked.length;
  $("asked").replaceChildren(...asked.map((question) => element("li", {}, element("a", { href: `?q=${encodeURIComponent(question)}`, textContent: question }))));
}

function askFromAddress() {
  const question = new URLSearchParams(location.search).get("q");
  if (!question) return;
  $("question").value = question;
  ask();
}

function moved(line, before) {
  const change = line.other === null ? null : before ? line.rank - line.other : line.other - line.rank;
  if (change === null) return element("span", { className: "move down", textContent: " ↓ left the list" });
  if (change === 0) return element("span", { className: "move", textContent: " = stays" });
  const up = change > 0;
  return element("span", { className: `move ${up ? "up" : "down"}`, textContent: ` ${up ? "↑" : "↓"} ${up ? "up" : "down"} ${Math.abs(change)}` });
}

function show(found) {
  $("notes").replaceChildren(...found.notes.map((note) => element("li", { textContent: note })));
  const answer = $("answer");
  answer.className = found.state === "answered" ? "" : "none";
  if (found.state === "answered") {
    answer.replaceChildren(...found.answer.flatMap((one) => [`${one.text} `, cite(one.number), " "]));
  } else if (found.state === "not_sure") {
    answer.textContent = `Not sure that the answer is here. ${found.why} Look yourself: the nearest passages are below.`;
  } else if (!found.found) {
    answer.textContent = "Nothing was found. Are the years in the settings too narrow?";
  } else {
    const hidden = found.cards.length ? "" : ` The best passage has a probability of ${Math.round(found.best * 100)} %; a lower “least probability” in the settings shows it.`;
    answer.textContent = `No evidence. ${found.why}${hidden}`;
  }
  $("cards").replaceChildren(...found.cards.map(card));
  $("evidence-heading").hidden = !found.cards.length;
  $("before").replaceChildren(...found.before.map((line) => element("li", { textContent: line.title }, moved(line, true))));
  $("after").replaceChildren(...found.after.map((line) => element("li", { textContent: line.title }, moved(line, false))));
  const below = found.below ? ` · ${found.below} below the least probability` : "";
  const times = Object.entries(found.seconds).map(([name, seconds]) => `${name} ${Math.round(seconds * 1000)} ms`).join(" · ");
  $("timings").textContent = `${found.found} candidates · ${times}${below}`;
  $("written").hidden = true;
  $("result").hidden = false;
}

async function write(found, signal) {
  $("written").hidden = false;
  $("written-notes").replaceChildren();
  $("written-text").textContent = "";
  $("answer").className = "small";
  const numbers = new Set(found.cards.map((one) => one.number));
  const response = await fetch("/write", { method: "POST", signal });
  if (!response.ok) throw new Error((await response.json()).error);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "", text = "", failed = true;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (held + value).split("\n");
    held = lines.pop();
    for (const line of lines.filter(Boolean).map((one) => JSON.parse(one))) {
      if (line.piece) {
        text += line.piece;
        $("written-text").replaceChildren(...withCitations(text, numbers));
      } else {
        failed = line.failed;
        $("written-notes").replaceChildren(...line.notes.map((note) => element("li", { textContent: note })));
      }
    }
  }
  if (failed) $("answer").className = "";
}

async function ask(event) {
  event?.preventDefault();
  asking?.abort();
  const mine = (asking = new AbortController());
  showError("");
  $("busy").textContent = "Searching …";
  $("send").disabled = true;
  const years = [$("from").value, $("to").value];
  const collection = document.querySelector("input[name=collection]:checked").value;
  const body = JSON.stringify({ question: $("question").value, candidates: $("candidates").value, top_k: $("top_k").value, threshold: $("threshold").value, years, collection });
  try {
    const found = await call("/ask", { method: "POST", headers: { "Content-Type": "application/json" }, body, signal: mine.signal });
    show(found);
    remember(found.question);
    $("send").disabled = false;
    if (document.body.dataset.llm && found.cards.length) {
      $("busy").textContent = `${document.body.dataset.llm} is writing …`;
      await write(found, mine.signal);
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!$("written").hidden) $("answer").className = "";
    else $("result").hidden = true;
    showError(error.message);
  } finally {
    if (asking === mine) {
      $("busy").textContent = "";
      $("send").disabled = false;
    }
  }
}

function showFiles(files) {
  $("mine").replaceChildren(...files.map((one) => {
    const gone = element("button", { type: "button", className: "quiet", textContent: "Remove", ariaLabel: `Remove ${one.name}` });
    gone.addEventListener("click", async () => showFiles((await call(`/documents?name=${encodeURIComponent(one.name)}`, { method: "DELETE" })).files));
    const left = one.left_out ? `, ${one.left_out} parts left out` : "";
    return element("li", { textContent: `${one.name}: ${one.passages} passages${left}${one.replaced ? ", replaced" : ""} ` }, gone);
  }));
  $("clear").hidden = $("own").disabled = !files.length;
  if (!files.length) document.querySelector("input[value=shared]").checked = true;
}

async function upload(files) {
  const problems = [];
  for (const file of [...files]) {
    $("busy").textContent = `Reading ${file.name} …`;
    try {
      if (file.size > 20_000_000) throw new Error(`${file.name} is too large: 20 MB are taken at most.`);
      const said = await call(`/documents?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
      showFiles(said.files);
      $("own").checked = true;
    } catch (error) {
      problems.push(error.message);
    }
  }
  $("files").value = "";
  $("busy").textContent = "";
  showError(problems.join(" "));
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = name === "dark" ? "Light" : "Dark";
  $("theme").setAttribute("aria-pressed", String(name === "dark"));
}

function bind(id) {
  const tell = () => ($(`${id}-value`).textContent = $(id).value);
  $(id).addEventListener("input", tell);
  tell();
}

async function begin() {
  setTheme(localStorage.getItem("theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  $("theme").addEventListener("click", () => {
    const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("theme", name);
    setTheme(name);
  });
  $("ask").addEventListener("submit", ask);
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) ask(event);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(TEXTAREA|INPUT)$/.test(event.target.tagName)) {
      event.preventDefault();
      $("question").focus();
    }
  });
  document.addEventListener("click", (event) => {
    if (event.target.classList.contains("cite")) $(event.target.hash.slice(1))?.focus();
  });
  $("files").addEventListener("change", () => upload($("files").files));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("more").open = true;
    upload(event.dataTransfer.files);
  });
  window.addEventListener("popstate", askFromAddress);
  showAsked();
  $("clear").addEventListener("click", async () => showFiles((await call("/documents", { method: "DELETE" })).files));
  try {
    const about = await call("/about");
    $("collection").textContent = `${about.name}: ${about.passages.toLocaleString("en")} passages${about.llm ? ` · answers written by ${about.llm}` : ""}`;
    $("shared-name").textContent = about.name;
    $("threshold").value = about.threshold;
    document.body.dataset.llm = about.llm || "";
    $("examples").replaceChildren(...about.examples.map((question) => {
      const button = element("button", { type: "button", textContent: question });
      button.addEventListener("click", () => { $("question").value = question; ask(); });
      return button;
    }));
    showFiles(about.files);
  } catch (error) {
    showError(error.message);
  }
  ["candidates", "top_k", "threshold"].forEach(bind);
  askFromAddress();
}

begin();
