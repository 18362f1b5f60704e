/**
 * A screen that nobody touches. It shows the alerts in turn, each in every language it has, the gravest first; with nothing in force, the time.
 * The page's elements are filled anew for each face: however long it runs, nothing grows.
 */
import { Board } from "./board.js";
import { areasOf, card, keyOf, use, variety } from "./cards.js";
import { showConnection } from "./connection.js";
import { page } from "./page.js";
import { Wording } from "./wording.js";

const FACE_SECONDS = 12;
const MAX_ALERTS = 12;
const MAX_LANGUAGES = 6;
const SMALLEST_TEXT = 0.4;

const wordings = Object.fromEntries(Object.entries(page.wordings).map(([lang, catalogue]) => [lang, new Wording(catalogue)]));
const languages = page.langs.length ? page.langs : [page.lang, ...Object.keys(wordings).filter((lang) => lang !== page.lang)];
const board = new Board(page);
const root = document.body;
const at = (name) => document.querySelector(`[data-slot="${name}"]`);

let faces = [];
let index = 0;
let turn = 0;

const wordingOf = (tag) => wordings[tag.toLowerCase().split("-")[0]] ?? wordings.en;

/** Every alert in every language wanted, or, where it has none of them, in its own first one. */
function facesOf(alerts) {
  const real = alerts.filter((alert) => alert.status === "Actual");
  // A drill is never shown between real alerts.
  return (real.length ? real : alerts).slice(0, MAX_ALERTS).flatMap((alert) => {
    const tags = [...new Set(alert.info.map((info) => variety(String(info.language ?? ""))))];
    const wanted = languages.flatMap((lang) => tags.filter((tag) => tag === variety(lang) || tag.split("-")[0] === variety(lang)));
    const shown = [...new Set(wanted.length ? wanted : tags.slice(0, 1))].slice(0, MAX_LANGUAGES);
    return (shown.length ? shown : [page.lang]).flatMap((tag) => {
      const wording = wordingOf(tag || page.lang);
      const values = card(alert, wording, tag || page.lang);
      return values.sections.slice(0, 4).map((section) => ({ alert, wording, values, section }));
    });
  });
}

function show() {
  clearTimeout(turn);
  const face = faces[index];
  root.dataset.mode = face ? (face.alert.status === "Actual" ? "alert" : "drill") : "calm";
  root.className = face ? `tone-${face.values.tone}` : "";
  if (face) showFace(face);
  else showCalm(wordingOf(languages[index % languages.length]));
  at("pages").textContent = faces.length > 1 ? face.wording.text("signage.page", { n: index + 1, of: faces.length }) : "";
  const count = face ? faces.length : languages.length;
  if (count > 1) turn = setTimeout(() => { index = (index + 1) % count; show(); }, FACE_SECONDS * 1000);
}

function showFace({ alert, wording, values, section }) {
  const element = document.getElementById("alert");
  element.lang = section.lang;
  at("name").lang = values.nameLang;
  use(element.querySelector(".shape"), values.shape);
  use(element.querySelector(".picture"), `picture-${values.picture}`);
  const order = values.picture === "evacuation" && alert.level ? wording.text(`act.${alert.level}`) : "";
  const texts = {
    notice: values.notice,
    grade: values.grade,
    name: values.name,
    headline: section.headline,
    areas: areasOf(section, wording),
    instruction: section.instruction || order || section.description,
    issued: values.issued,
    sender: values.sender,
  };
  for (const [name, text] of Object.entries(texts)) at(name).textContent = text;
  fit();
}

function showCalm(wording) {
  document.getElementById("calm").lang = wording.lang;
  at("date").textContent = wording.moment(board.now(), "date");
  at("note").textContent = wording.text("signage.calm_note");
  at("rough").textContent = page.rough ? wording.text("state.rough") : "";
  calmWords(wording);
}

/** What is not known to be calm is never called calm. */
function calmWords(wording) {
  const text = board.stale ? wording.text("state.was_calm", { time: wording.moment(board.confirmed, "clock") }) : wording.text("state.calm");
  if (at("calm").textContent !== text) at("calm").textContent = text;
}

/** The largest type that fits; what does not fit at the smallest is cut off by the edge. */
function fit() {
  const text = at("text");
  const band = document.querySelector(".band");
  const name = at("name");
  const over = (element) => element.scrollHeight > element.clientHeight + 1 || element.scrollWidth > element.clientWidth + 1;
  // On one line while that is large enough, else on two.
  const lines = () => Math.round(name.offsetHeight / parseFloat(getComputedStyle(name).lineHeight));
  // Smallest text first, so that the band has all the room that it may ask for.
  root.style.setProperty("--fit", SMALLEST_TEXT);
  shrink("--name", 18, 5, 0.5, (size) => over(band) || lines() > (size >= 12 ? 1 : 2));
  shrink("--fit", 1, SMALLEST_TEXT, 0.05, () => over(text));
}

function shrink(property, largest, smallest, step, unfit) {
  for (let size = largest; size >= smallest; size -= step) {
    root.style.setProperty(property, size.toFixed(2));
    if (!unfit(size)) return;
  }
}

function tick() {
  const time = wordings.ja.moment(board.now(), "clock");
  for (const name of ["clock", "bigclock"]) if (at(name).textContent !== time) at(name).textContent = time;
  if (!faces.length) {
    const wording = wordingOf(languages[index % languages.length]);
    const date = wording.moment(board.now(), "date");
    if (at("date").textContent !== date) at("date").textContent = date;
    calmWords(wording);
  }
}

board.addEventListener("change", ({ detail: { added, changed } }) => {
  const current = faces[index];
  faces = facesOf(board.list());
  const first = (alerts) => faces.findIndex((face) => alerts.some((alert) => alert.id === face.alert.id));
  const same = faces.findIndex((face) => current && keyOf(face.alert) === keyOf(current.alert) && face.section.lang === current.section.lang);
  // What is new is shown at once, and so is a change of something at least as grave; otherwise the face that is up stays up.
  const news = first(added);
  // A correction waits for its turn.
  const change = first(changed.filter((alert) => !alert.correction));
  if (news >= 0) index = news;
  else index = change >= 0 && change <= Math.max(0, same) ? change : Math.max(0, same);
  show();
});
board.addEventListener("connection", tick);
addEventListener("resize", () => faces.length && fit());
document.fonts?.addEventListener("loadingdone", () => faces.length && fit());
showConnection(board, wordings[page.lang], () => faces.length && fit());
if (root.dataset.mode !== "calm") fit();
board.start();

/** Players on plain browsers would dim the screen; where the browser cannot hold it awake, nothing is lost. */
async function stayAwake() {
  try { await navigator.wakeLock?.request("screen"); } catch { /* refused: battery, or not a secure context */ }
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) stayAwake(); });
stayAwake();
