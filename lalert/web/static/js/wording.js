/** Words and times for people, from the page's catalogue: the same rules as wording.py. */
const JST = 9 * 3600 * 1000;

/** Replace `{name}` by values in one pass. */
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (found, name) => String(values[name] ?? found));

export class Wording {
  constructor(catalogue) {
    this.catalogue = catalogue;
    this.lang = catalogue.lang;
  }

  /** The text of a key such as `card.until`. */
  text(key, values = {}) {
    return fill(this.look(key) ?? key, values);
  }

  /** The text of a key, or undefined. */
  look(key) {
    const [section, ...name] = key.split(".");
    return this.catalogue[section][name.join(".")];
  }

  /** 警戒レベル, 相当 for what is no order, or the severity. */
  grade(level, kind, severity) {
    const words = this.catalogue.grade;
    if (level == null) return words.severity[severity] ?? words.severity.Unknown;
    return fill(kind === "evacuation" || level < 3 ? words.level : words.equivalent, { n: level });
  }

  /** A time (ISO text or milliseconds) in Japan: `stamp`, `date`, `clock` or `exact`. */
  moment(when, style = "stamp") {
    const words = this.catalogue.time;
    // Shifted by nine hours, the UTC fields are those of Japan, whatever zone this machine is set to.
    const local = new Date(new Date(when).getTime() + JST);
    const two = (number) => String(number).padStart(2, "0");
    return fill(words[style], {
      month: words.months[local.getUTCMonth()],
      day: local.getUTCDate(),
      weekday: words.weekdays[local.getUTCDay()],
      hour: local.getUTCHours(),
      minute: two(local.getUTCMinutes()),
      second: two(local.getUTCSeconds()),
    });
  }

  /** How long ago, from seconds. */
  ago(seconds) {
    const words = this.catalogue.time;
    if (seconds < 120) return fill(words.seconds, { n: Math.floor(seconds) });
    if (seconds < 7200) return fill(words.minutes, { n: Math.floor(seconds / 60) });
    return fill(words.hours, { n: Math.floor(seconds / 3600) });
  }
}
