// The three views of the result: picture, JSON, API. Arrow keys move between them.

import { byId } from "./dom.js";

const NAMES = ["picture", "json", "code"];

export class Tabs {
  constructor(onShow) {
    this.onShow = onShow;
    this.current = NAMES[0];
    for (const name of NAMES) byId(`tab-${name}`).addEventListener("click", () => this.show(name));
    byId("views").addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = NAMES[(NAMES.indexOf(this.current) + step + NAMES.length) % NAMES.length];
      this.show(next);
      byId(`tab-${next}`).focus();
    });
  }

  show(name) {
    this.current = name;
    for (const other of NAMES) {
      const isShown = other === name;
      byId(`tab-${other}`).setAttribute("aria-selected", String(isShown));
      byId(`tab-${other}`).tabIndex = isShown ? 0 : -1;
      byId(`view-${other}`).hidden = !isShown;
    }
    this.onShow(name);
  }
}
