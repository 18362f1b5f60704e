/** What a person reads of one alert, and the card that shows it: the same rules as cards.py. Text is only ever set as text. */
const MAX_HEADLINE = 200;
const MAX_TEXT = 2000;
const MAX_AREAS = 30;
const MAX_AREA = 60;
const MAX_INFOS = 8;
const PICTURES = ["evacuation", "shelter", "headquarters", "damage", "general", "river-level", "rain", "weather"];
const SEVERITIES = ["Unknown", "Minor", "Moderate", "Severe", "Extreme"];

const grave = (severity) => Math.max(0, SEVERITIES.indexOf(severity));
const primary = (tag) => tag.toLowerCase().split("-")[0];
/** `ja` and `ja-JP` are read by the same people; plain Japanese (`ja-x-easy`) says the same a second time. */
export const variety = (tag) => tag.toLowerCase().replace(/-([a-z]{2}|\d{3})(?=-|$)/, "");
const varietyOf = (info) => variety(String(info.language ?? ""));

/** The infos in one language: the one asked for, else another of its kind, else Japanese, else that of the first. */
export function chosen(infos, lang) {
  const of = (wanted) => infos.filter((info) => varietyOf(info) === wanted);
  for (const wanted of [variety(lang), primary(lang), "ja"]) {
    const found = of(wanted);
    if (found.length) return found;
    const other = infos.find((info) => primary(varietyOf(info)) === wanted);
    if (other) return of(varietyOf(other));
  }
  return infos.length ? of(varietyOf(infos[0])) : [];
}

export function tone(level, severity) {
  return level ? `l${level}` : `s-${(SEVERITIES.includes(severity) ? severity : "Unknown").toLowerCase()}`;
}

/** A card's values from an alert's JSON; see Card in cards.py. */
export function card(alert, wording, lang) {
  const infos = chosen(alert.info, lang);
  const first = infos[0] ?? {};
  const severity = infos.reduce((worst, info) => (grave(info.severity) > grave(worst) ? info.severity : worst), "Unknown");
  const level = alert.level ?? null;
  const kind = alert.kind ?? "";
  const ordered = kind === "evacuation" && level !== null;
  const real = alert.status === "Actual";
  const mark = real ? "" : wording.look(`mark.${alert.status}`) ?? "";
  const full = real ? "" : wording.look(`mark.${alert.status}.full`) ?? "";
  return {
    key: keyOf(alert),
    tone: real ? tone(level, severity) : "drill",
    shape: level ? `level-${level}` : "level-none",
    picture: PICTURES.includes(kind) ? kind : "general",
    grade: wording.grade(level, kind, severity),
    name: ordered ? wording.text(`evacuation.${level}`) : cut(first.event, MAX_HEADLINE),
    nameLang: ordered ? wording.lang : first.language || wording.lang,
    mark,
    notice: full && `【${mark}】${full}`,
    sections: (infos.length ? infos : [{}]).slice(0, MAX_INFOS).map((info) => section(info, wording)),
    issued: wording.text(`card.${alert.correction ? "corrected" : alert.msgType === "Update" ? "updated" : "issued"}`, { time: wording.moment(alert.sent) }),
    until: untilOf(infos, alert.sent, wording),
    sender: cut(first.senderName || alert.sender, MAX_HEADLINE),
    url: String(alert.url).startsWith("/alerts/") ? alert.url : "",
  };
}

/** A drill never replaces or ends what is real, whatever it refers to. */
export const keyOf = (alert) => `${alert.status}|${alert.incident}`;

/** When the last info expires, in milliseconds; null where one never does. */
export function expires(alert) {
  const ends = alert.info.map((info) => (info.expires ? Date.parse(info.expires) : Number.NaN));
  return ends.length && !ends.some(Number.isNaN) ? Math.max(...ends) : null;
}

/** When it ends, in words; the day only if it is another than that of the message. */
function untilOf(infos, sent, wording) {
  const until = expires({ info: infos });
  if (until === null) return "";
  const sameDay = wording.moment(until, "date") === wording.moment(sent, "date") && Math.abs(until - Date.parse(sent)) < 86400000;
  return wording.text("card.until", { time: wording.moment(until, sameDay ? "clock" : "stamp") });
}

/** Real before drills, the gravest first, then the newest. */
export function compare(a, b) {
  const rank = (alert) => alert.level ?? grave(alert.info.reduce((worst, i) => (grave(i.severity) > grave(worst) ? i.severity : worst), "Unknown"));
  return (b.status === "Actual") - (a.status === "Actual") || rank(b) - rank(a) || (b.stored > a.stored ? 1 : b.stored < a.stored ? -1 : 0);
}

function section(info, wording) {
  const names = [...new Set((info.areas ?? []).map((area) => String(area.areaDesc ?? "").trim()))].filter(Boolean);
  return {
    lang: info.language || wording.lang,
    headline: cut(info.headline || info.event || wording.text("card.untitled"), MAX_HEADLINE),
    description: cut(info.description, MAX_TEXT),
    instruction: cut(info.instruction, MAX_TEXT),
    areas: names.slice(0, MAX_AREAS).map((name) => cut(name, MAX_AREA)),
    more: Math.max(0, names.length - MAX_AREAS),
    web: web(info.web),
  };
}

/** A sender's link if a browser may follow it: `javascript:` and its like are no links. */
function web(address) {
  if (typeof address !== "string" || address.length > MAX_TEXT) return "";
  try {
    const url = new URL(address.trim());
    return url.protocol === "https:" || url.protocol === "http:" ? address.trim() : "";
  } catch {
    return "";
  }
}

export function cut(text, limit) {
  const all = String(text ?? "").trim();
  const points = all.length <= limit ? null : [...all.slice(0, 2 * limit)];
  return points === null || points.length <= limit ? all : points.slice(0, limit - 1).join("") + "…";
}

/** Areas as one line of text. */
export function areasOf(section, wording) {
  const names = section.areas.join(wording.catalogue.separator);
  return section.more ? `${names} ${wording.text("card.more_areas", { n: section.more })}` : names;
}

/** Fill a card of the page's template; an existing element is filled anew, so that focus and place stay. */
export function render(values, wording, template, old = null) {
  const element = old ?? template.content.firstElementChild.cloneNode(true);
  element.className = `card tone-${values.tone}`;
  element.dataset.key = values.key;
  const slot = (name, within = element) => within.querySelector(`[data-slot="${name}"]`);
  const put = (name, text, within) => { const at = slot(name, within); at.textContent = text; at.hidden = !text; };
  use(element.querySelector(".shape"), values.shape);
  use(element.querySelector(".picture"), `picture-${values.picture}`);
  for (const name of ["notice", "grade", "name", "issued", "until", "sender"]) put(name, values[name]);
  slot("name").lang = values.nameLang;
  link(slot("url"), values.url);
  const infos = element.querySelector(".infos");
  const blank = template.content.querySelector(".info");
  infos.replaceChildren(...values.sections.map((info) => {
    const part = blank.cloneNode(true);
    part.lang = info.lang;
    for (const name of ["headline", "description", "instruction"]) put(name, info[name], part);
    put("areas", areasOf(info, wording), part);
    slot("places", part).hidden = !info.areas.length;
    slot("act", part).hidden = !info.instruction;
    link(slot("web", part), info.web);
    slot("more", part).hidden = !info.web;
    return part;
  }));
  return element;
}

/** Point an icon at a symbol of the page. */
export function use(svg, symbol) {
  svg.firstElementChild.setAttribute("href", `#${symbol}`);
}

function link(anchor, address) {
  if (address) anchor.href = address;
  else anchor.removeAttribute("href");
}
