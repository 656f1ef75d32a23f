import { elapsed } from "../../../control/words.ts";
import type { Change, Piece } from "./reader.ts";

/** A trace in the page: lines in sections that fold. Made by hand, as a trace only grows. */
export interface Sheet {
  add(changes: readonly Change[], rest: readonly Piece[]): void;
  /** Marks lines with this text; an empty one none. @returns how many */
  find(text: string): number;
  /** Shows the next of them. @returns which one it is, from 1; 0: there is none */
  step(by: 1 | -1): number;
  fold(all: boolean): void;
}

/** Older lines are removed, as a page with more of them is slow. */
const MOST_LINES = 20_000;

interface Section {
  readonly name: string;
  readonly at: number;
  readonly collapsed: boolean;
  readonly box: HTMLElement;
  readonly body: HTMLElement;
  head: HTMLButtonElement | null;
}

export function createSheet(root: HTMLElement, onDropped: (lines: number) => void): Sheet {
  const open: Section[] = [];
  let lines: HTMLElement[] = [];
  let wanted = "";
  let found: HTMLElement[] = [];
  let here = -1;
  let count = 0;
  let dropped = 0;
  const last = element("div", "line unfinished");
  root.append(last);

  const place = (): HTMLElement => open.at(-1)?.body ?? root;
  const append = (node: HTMLElement): void => {
    if (place() === root) root.insertBefore(node, last);
    else place().append(node);
  };
  const mark = (line: HTMLElement): void => {
    if (wanted === "" || !line.textContent.toLowerCase().includes(wanted)) return;
    line.classList.add("found");
    found.push(line);
  };
  const addLine = (pieces: readonly Piece[]): void => {
    const section = open.at(-1);
    count++;
    const line = element("div", "line");
    const text = element("span", "text");
    text.append(...pieces.map(nodeOf));
    const number = element("span", "number");
    number.dataset.number = String(count);
    if (section !== undefined && section.head === null) {
      const head = document.createElement("button");
      head.type = "button";
      head.className = "head";
      head.append(text, element("span", "took"));
      head.addEventListener("click", () => setFolded(section, !section.box.classList.contains("folded")));
      section.head = head;
      line.append(number, head);
      section.box.prepend(line);
      setFolded(section, false);
    } else {
      line.append(number, text);
      append(line);
    }
    lines.push(line);
    mark(line);
  };
  const start = ({ name, at, collapsed }: Change & { kind: "start" }): void => {
    const box = element("div", "section");
    const body = element("div", "body");
    box.append(body);
    append(box);
    open.push({ name, at, collapsed, box, body, head: null });
  };
  const end = ({ name, at }: Change & { kind: "end" }): void => {
    const index = open.findLastIndex((section) => section.name === name);
    if (index < 0) return;
    for (const section of open.splice(index)) {
      const took = section.head?.querySelector(".took");
      if (took) took.textContent = elapsed(Math.max(0, at - section.at));
      if (section.collapsed) setFolded(section, true);
    }
  };
  const trim = (): void => {
    if (lines.length <= MOST_LINES) return;
    const gone = lines.splice(0, lines.length - MOST_LINES);
    for (const line of gone) {
      const box = line.parentElement;
      line.remove();
      if (box?.classList.contains("body") && box.childElementCount === 0) box.parentElement?.remove();
    }
    found = found.filter((line) => line.isConnected);
    dropped += gone.length;
    onDropped(dropped);
  };

  return {
    add(changes, rest) {
      for (const change of changes) {
        if (change.kind === "line") addLine(change.pieces);
        else if (change.kind === "start") start(change);
        else end(change);
      }
      last.replaceChildren(...rest.map(nodeOf));
      trim();
    },
    find(text) {
      for (const line of found) line.classList.remove("found", "here");
      found = [];
      here = -1;
      wanted = text.toLowerCase();
      for (const line of lines) mark(line);
      return found.length;
    },
    step(by) {
      if (found.length === 0) return 0;
      found[here]?.classList.remove("here");
      here = here < 0 && by < 0 ? found.length - 1 : (here + by + found.length) % found.length;
      const line = found[here];
      for (let box = line?.parentElement; box; box = box.parentElement) box.classList.remove("folded");
      line?.classList.add("here");
      line?.scrollIntoView({ block: "center" });
      return here + 1;
    },
    fold(all) {
      lines = lines.filter((line) => line.isConnected);
      for (const head of root.querySelectorAll<HTMLButtonElement>(".head")) {
        const box = head.closest(".section");
        box?.classList.toggle("folded", all);
        head.setAttribute("aria-expanded", String(!all));
      }
    },
  };
}

function setFolded({ box, head }: Section, folded: boolean): void {
  box.classList.toggle("folded", folded);
  head?.setAttribute("aria-expanded", String(!folded));
}

function element(tag: "div" | "span", className: string): HTMLElement {
  const made = document.createElement(tag);
  made.className = className;
  return made;
}

function nodeOf({ text, look }: Piece): Node {
  const { ink, paper, inverse, ...styles } = look;
  const names = Object.entries(styles).flatMap(([name, is]) => (is === true ? [name] : []));
  const [front, back] = inverse ? [paper ?? "paper", ink ?? "ink"] : [ink, paper];
  if (names.length === 0 && front === null && back === null) return document.createTextNode(text);
  const span = element("span", names.join(" "));
  const paint = (property: "ink" | "paper", color: number | string | null): void => {
    if (color === null) return;
    if (typeof color === "string" && color.startsWith("#")) {
      span.style.setProperty(property === "ink" ? "color" : "background-color", color);
    } else span.classList.add(`${property}-${color}`);
  };
  paint("ink", front);
  paint("paper", back);
  span.textContent = text;
  return span;
}
