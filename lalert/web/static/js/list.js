/** The list of cards with its statement, shared by the home page and a municipality's page. */
import { card, cut, render } from "./cards.js";

const MAX_ENDED = 5;
const MAX_REASON = 200;

export class List {
  #board; #wording; #content; #limit; #template; #cards; #ended = [];

  constructor(board, wording, page) {
    this.#board = board;
    this.#wording = wording;
    this.#content = page.content;
    this.#limit = page.limit;
    this.#template = document.getElementById("card");
    this.#cards = document.getElementById("cards");
    board.addEventListener("change", ({ detail }) => this.#show(detail));
  }

  #show({ added, changed, ended }) {
    const alerts = this.#board.list();
    const shown = alerts.slice(0, this.#limit);
    // A correction is shown, and draws no attention to itself.
    const fresh = new Set([...added, ...changed].filter((alert) => !alert.correction).map((alert) => alert.id));
    const old = new Map([...this.#cards.children].map((element) => [element.dataset.key, element]));
    const elements = shown.map((alert) => {
      const values = card(alert, this.#wording, this.#content);
      const element = render(values, this.#wording, this.#template, old.get(values.key));
      if (fresh.has(alert.id)) this.#mark(element);
      return element;
    });
    this.#arrange(elements);
    const rest = document.getElementById("rest");
    rest.hidden = alerts.length <= shown.length;
    rest.textContent = this.#wording.text("card.more", { n: alerts.length - shown.length });
    this.#remember(ended);
    this.state();
    this.#tell(added, changed, ended);
  }

  /** The sentence at the top. What is not known to be calm is never called calm. */
  state() {
    const statement = document.getElementById("statement");
    const real = this.#board.list().filter((alert) => alert.status === "Actual").length;
    const slot = (name) => statement.querySelector(`[data-slot="${name}"]`);
    const time = this.#wording.moment(this.#board.confirmed, "stamp");
    const key = real ? "state.some" : this.#board.stale ? "state.was_calm" : "state.calm";
    statement.dataset.calm = real ? "no" : "yes";
    set(slot("statement"), this.#wording.text(key, { n: real, time }));
    set(slot("asof"), this.#wording.text("state.as_of", { time }));
  }

  #mark(element) {
    element.classList.add("fresh");
    setTimeout(() => element.classList.remove("fresh"), 2500);
  }

  /** Move only what moved, so that focus and reading position stay. */
  #arrange(elements) {
    for (const child of [...this.#cards.children]) if (!elements.includes(child)) child.remove();
    elements.forEach((element, index) => {
      const at = this.#cards.children[index];
      if (at !== element) this.#cards.insertBefore(element, at ?? null);
    });
  }

  #remember(ended) {
    for (const alert of ended) {
      const values = card(alert, this.#wording, this.#content);
      const why = alert.reason ? this.#wording.text("state.reason", { text: cut(alert.reason, MAX_REASON) }) : "";
      this.#ended.unshift({ text: heading(values), why, at: this.#wording.text("state.ended_at", { time: this.#wording.moment(this.#board.now(), "clock") }) });
    }
    this.#ended.length = Math.min(this.#ended.length, MAX_ENDED);
    const section = document.getElementById("ended");
    section.hidden = !this.#ended.length;
    section.querySelector("ul").replaceChildren(...this.#ended.map(({ text, why, at }) => {
      const item = document.createElement("li");
      const what = document.createElement("bdi");
      what.textContent = text;
      item.append(what, " ", at);
      if (why) {
        const reason = document.createElement("bdi");
        reason.textContent = why;
        item.append(" ", reason);
      }
      return item;
    }));
  }

  #tell(added, changed, ended) {
    const say = (key, alerts) => alerts.slice(0, 3).map((alert) => this.#wording.text(key, { text: heading(card(alert, this.#wording, this.#content)) }));
    const corrected = changed.filter((alert) => alert.correction);
    const updated = changed.filter((alert) => !alert.correction);
    const news = [...say("state.added", added), ...say("state.changed", updated), ...say("state.corrected", corrected), ...say("state.ended", ended)];
    if (news.length) document.getElementById("told").textContent = news.join(" ");
  }
}

function heading(values) {
  return `${[values.notice, values.grade, values.name].filter(Boolean).join(" ")} – ${values.sections[0].headline}`;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
