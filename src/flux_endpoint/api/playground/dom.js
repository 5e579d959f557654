// Small helpers for the page's elements. Text only ever enters the page as text nodes.

export const byId = (id) => document.getElementById(id);

// el("p", {className: "note", "aria-live": "polite"}, "text", child)
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

// Makes the children of a list those that `entries` [[name, make]] stand for, in their order. One that was there before
// under its name stays the very element, and where it is: it keeps the focus, and a click that is half done.
export function arrange(list, entries) {
  const before = new Map([...list.children].map((child) => [child.dataset.entry, child]));
  const children = entries.map(([name, make]) => before.get(name) ?? make());
  for (const [index, [name]] of entries.entries()) children[index].dataset.entry = name;
  const kept = new Set(children);
  for (const child of before.values()) if (!kept.has(child)) child.remove();
  for (const [index, child] of children.entries()) if (list.children[index] !== child) list.insertBefore(child, list.children[index] ?? null);
}

// Copies a text and says so on the button for a moment.
export async function copyFrom(button, text) {
  const label = button.querySelector("span") ?? button;
  const before = label.dataset.label ?? label.textContent;
  label.dataset.label = before;
  label.textContent = (await copy(text, button)) ? "Copied" : "Copying is not allowed here";
  announce(label.textContent);
  setTimeout(() => (label.textContent = before), 1_800);
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Browsers offer no clipboard on pages that come over plain http from another machine, but all of them still copy
    // what is selected. Beside the button: within an open dialog, nothing outside it can be.
    const field = el("textarea", { value: text, readOnly: true, className: "copied", "aria-label": "Copied text" });
    button.after(field);
    field.select();
    const isCopied = document.execCommand("copy");
    field.remove();
    button.focus();
    return isCopied;
  }
}

// Tells screen readers what just changed.
export function announce(text) {
  byId("announcer").textContent = text;
}
