import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { order } from "./api.ts";

/** How this page gives orders. */
export interface Orders {
  readonly csrf: string;
  /** Told to whoever gave one. */
  readonly say: (note: string) => void;
}

interface OrderButtonProps {
  readonly orders: Orders;
  readonly path: string;
  /** For those who hear the page. */
  readonly label: string;
  /** Asked before: a second press is the answer. */
  readonly ask?: string;
  readonly children: ComponentChildren;
}

export function OrderButton({ orders, path, label, ask, children }: OrderButtonProps) {
  const [asked, setAsked] = useState(false);
  const [busy, setBusy] = useState(false);
  const press = async (): Promise<void> => {
    if (ask !== undefined && !asked) {
      setAsked(true);
      return;
    }
    setAsked(false);
    setBusy(true);
    const problem = await order(path, orders.csrf);
    setBusy(false);
    orders.say(problem ?? `Done: ${label}`);
  };
  return (
    <button
      type="button"
      class={asked ? "sure" : ""}
      disabled={busy}
      aria-label={asked ? `${ask} ${label}` : label}
      onClick={() => void press()}
      onBlur={() => setAsked(false)}
    >
      {asked ? ask : children}
    </button>
  );
}
