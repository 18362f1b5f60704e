/** The map: no tiles needed. Every municipality's office is a dot (together they draw Japan), what alerts concern is coloured and named. */
/* global L */
import { card, keyOf } from "./cards.js";

const MAX_NAMED = 24;
const MAX_TOWNS = 60;
const MAX_SHAPES = 400;
const MAX_OUTLINES = 60;
const TOWN_ZOOM = 9;
const JAPAN = [[30.8, 128.6], [45.7, 146]];

export class Chart {
  #map; #dots; #zones; #towns; #page; #wording; #places = new Map(); #outlines = new Map(); #alerts = []; #held = false; #fitted = ""; #bounds = new Map();

  constructor(element, page, wording) {
    this.#page = page;
    this.#wording = wording;
    element.replaceChildren();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#map = L.map(element, { attributionControl: false, zoomControl: false, minZoom: 4, maxZoom: 17, zoomSnap: 0.5, maxBounds: [[15, 105], [55, 170]], worldCopyJump: false, zoomAnimation: !still, fadeAnimation: !still, markerZoomAnimation: !still });
    L.control.zoom({ zoomInTitle: wording.text("home.zoom_in"), zoomOutTitle: wording.text("home.zoom_out") }).addTo(this.#map);
    this.#map.fitBounds(JAPAN);
    if (page.tiles) L.tileLayer(page.tiles, { maxZoom: 18, referrerPolicy: "strict-origin-when-cross-origin" }).addTo(this.#map);
    else if (page.official) this.#ground();
    this.#dots = L.layerGroup().addTo(this.#map);
    this.#zones = L.layerGroup().addTo(this.#map);
    this.#towns = L.layerGroup().addTo(this.#map);
    for (const kind of ["pointerdown", "wheel", "keydown"]) element.addEventListener(kind, () => { this.#held = true; }, { passive: true });
    this.#map.on("moveend", () => this.#name());
    this.#map.on("zoomend", () => this.#grow());
    this.#load();
  }

  /** Draw what is in force, and go there, unless the reader has taken the map in hand. */
  show(alerts) {
    this.#alerts = alerts;
    this.#draw();
    this.#fetchOutlines();
    this.#fitAll();
  }

  /** Go to one alert. */
  fit(key) {
    const bounds = this.#bounds.get(key);
    if (!bounds?.isValid()) return;
    this.#held = true;
    this.#map.fitBounds(bounds.pad(0.4), { maxZoom: 12 });
    this.#map.getContainer().focus({ preventScroll: true });
    this.#map.getContainer().scrollIntoView({ block: "nearest" });
  }

  /** Show all that is in force; only where that changed, so that nothing moves without a reason. */
  #fitAll() {
    const bounds = L.latLngBounds([]);
    for (const one of this.#bounds.values()) bounds.extend(one);
    if (this.#held || !bounds.isValid() || !this.#places.size || bounds.toBBoxString() === this.#fitted) return;
    this.#fitted = bounds.toBBoxString();
    this.#map.fitBounds(bounds.pad(0.35), { maxZoom: 11.5, animate: false });
  }

  async #load() {
    const canvas = L.canvas({ padding: 0.3 });
    const colour = getComputedStyle(document.documentElement).getPropertyValue("--dot").trim();
    for (const [code, lon, lat, name] of await json(this.#page.points, [])) {
      this.#places.set(code, { at: L.latLng(lat, lon), name });
      L.circleMarker([lat, lon], { renderer: canvas, radius: 1.4, stroke: false, fillColor: colour, fillOpacity: 1, interactive: false }).addTo(this.#dots);
    }
    this.#grow();
    this.#draw();
    this.#fitAll();
    const focus = [...this.#places].filter(([code]) => this.#page.areas.some((area) => code.startsWith(area))).map(([, { at }]) => at);
    if (!this.#fitted && focus.length) this.#map.fitBounds(L.latLngBounds(focus).pad(0.5), { maxZoom: 10, animate: false });
    this.#name();
  }

  /** Without tiles the prefectures are drawn, where their borders are known: dots alone draw the country elsewhere. */
  async #ground() {
    const prefectures = Array.from({ length: 47 }, (_, index) => String(index + 1).padStart(2, "0"));
    this.#map.createPane("ground").style.zIndex = 250;
    this.#map.getContainer().classList.add("grounded");
    for (const outline of Object.values(await this.#ask(prefectures))) {
      const className = `ground${outline.approximate ? " rough" : ""}`;
      L.geoJSON(feature(outline), { pane: "ground", interactive: false, style: { className } }).addTo(this.#map);
    }
    this.#explain();
  }

  /** Dots grow with the map, so that Japan is drawn by them from afar and offices are found near by. */
  #grow() {
    const radius = Math.min(3.5, (this.#page.official ? 1 : 1.5) + Math.max(0, this.#map.getZoom() - 5) * 0.45);
    this.#dots.eachLayer((dot) => dot.setRadius(radius));
  }

  #draw() {
    this.#zones.clearLayers();
    this.#bounds.clear();
    const places = new Map();
    let shapes = 0;
    const put = (layer) => (++shapes > MAX_SHAPES ? layer : layer.addTo(this.#zones));
    // The gravest comes last: it is drawn on top, and a place shows it alone.
    for (const alert of [...this.#alerts].reverse()) {
      const values = card(alert, this.#wording, this.#page.content);
      const bounds = L.latLngBounds([]);
      const areas = distinct(alert.info.flatMap((info) => info.areas ?? []));
      const style = { className: `zone tone-${values.tone}`, interactive: false };
      for (const { polygons, circles } of areas) {
        for (const ring of polygons ?? []) bounds.extend(put(L.polygon(ring.map(([lon, lat]) => [lat, lon]), style)).getBounds());
        for (const { lon, lat, radius_m: radius } of circles ?? []) bounds.extend(put(L.circle([lat, lon], { ...style, radius })).getLatLng().toBounds(2 * radius));
      }
      const drawn = areas.some((area) => area.polygons?.length || area.circles?.length);
      for (const code of alert.codes) {
        places.delete(code);
        places.set(code, { values, drawn });
        if (this.#places.has(code)) bounds.extend(this.#places.get(code).at);
        if (!drawn && this.#outlines.get(code)) bounds.extend(L.geoJSON(feature(this.#outlines.get(code))).getBounds());
      }
      this.#bounds.set(keyOf(alert), bounds);
    }
    for (const [code, { values, drawn }] of places) this.#mark(code, values, drawn, put);
    for (const [code, { values }] of [...places].slice(-MAX_NAMED)) this.#label(code, values);
    this.#explain();
    this.#name();
  }

  /** The legend speaks of dotted lines while there are any. */
  #explain() {
    document.getElementById("rough").hidden = !this.#map.getContainer().querySelector(".rough");
  }

  /** A municipality that is concerned: its office, and its outline where the sender drew nothing. */
  #mark(code, values, drawn, put) {
    const outline = this.#outlines.get(code);
    const className = `zone town tone-${values.tone}${outline?.approximate ? " rough" : ""}`;
    if (outline && !drawn) put(L.geoJSON(feature(outline), { interactive: false, style: { className } })).bringToBack();
    const place = this.#places.get(code);
    if (place) put(L.circleMarker(place.at, { radius: 5, className: `office tone-${values.tone}`, interactive: false }));
  }

  #label(code, values) {
    const place = this.#places.get(code);
    if (!place) return;
    const text = document.createElement("span");
    text.className = `tone-${values.tone}`;
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    icon.setAttribute("aria-hidden", "true");
    icon.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
    icon.firstChild.setAttribute("href", `#${values.shape}`);
    text.append(icon, values.notice ? `${values.mark} ${place.name}` : place.name);
    L.tooltip({ permanent: true, direction: "top", offset: [0, -7], className: "name", opacity: 1, interactive: false }).setLatLng(place.at).setContent(text).addTo(this.#zones);
  }

  /** Near by, the municipalities around get their names too. */
  #name() {
    this.#towns.clearLayers();
    if (this.#map.getZoom() < TOWN_ZOOM || !this.#places.size) return;
    const view = this.#map.getBounds().pad(-0.03);
    const concerned = new Set(this.#alerts.flatMap((alert) => alert.codes));
    let count = 0;
    for (const [code, { at, name }] of this.#places) {
      if (concerned.has(code) || !view.contains(at)) continue;
      if (++count > MAX_TOWNS) return;
      const text = document.createElement("span");
      text.textContent = name;
      L.tooltip({ permanent: true, direction: "right", offset: [4, 0], className: "town", opacity: 1, interactive: false }).setLatLng(at).setContent(text).addTo(this.#towns);
    }
  }

  async #fetchOutlines() {
    const missing = [...new Set(this.#alerts.flatMap((alert) => alert.codes))].filter((code) => !this.#outlines.has(code)).slice(0, MAX_OUTLINES);
    if (!missing.length) return;
    if (this.#outlines.size > MAX_SHAPES) this.#outlines.clear();
    for (const code of missing) this.#outlines.set(code, null);
    for (const [code, outline] of Object.entries(await this.#ask(missing))) this.#outlines.set(code, outline);
    this.#draw();
    this.#fitAll();
  }

  #ask(codes) {
    return json(`/map/outlines.json?${codes.map((code) => `area=${code}`).join("&")}`, {});
  }
}

/** Areas drawn differently: each language of an alert draws the same ones again. */
const distinct = (areas) => [...new Map(areas.map((area) => [JSON.stringify([area.polygons, area.circles]), area])).values()];
const feature = (geometry) => ({ type: "Feature", properties: {}, geometry });

/** JSON from the hub, or what stands for it where the hub does not answer: a map with less on it is still a map. */
async function json(address, otherwise) {
  try {
    const answer = await fetch(address);
    return answer.ok ? await answer.json() : otherwise;
  } catch {
    return otherwise;
  }
}
