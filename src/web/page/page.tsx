import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Access } from "../shown.ts";
import { askAccess, order } from "./api.ts";
import { JobPage } from "./job.tsx";
import { OrderButton, type Orders } from "./orders.tsx";
import { Overview } from "./overview.tsx";
import { SignIn } from "./sign-in.tsx";
import { followRunner, type Known, keyOf } from "./store.ts";

function Page() {
  const [access, setAccess] = useState<Access | null>(null);
  const [known, setKnown] = useState<Known | null>(null);
  const [note, setNote] = useState("");
  const [place, setPlace] = useState(location.hash);
  const [now, setNow] = useState(Date.now());

  const ask = (): void => {
    askAccess().then(setAccess, (error: unknown) => setNote(error instanceof Error ? error.message : String(error)));
  };
  useEffect(ask, []);
  useEffect(() => {
    if (access?.signedIn !== true) return;
    const feed = followRunner(setKnown, ask);
    return () => feed.close();
  }, [access]);
  useEffect(() => {
    const moved = (): void => setPlace(location.hash);
    addEventListener("hashchange", moved);
    const ticking = setInterval(() => setNow(Date.now()), 1000);
    return () => {
      removeEventListener("hashchange", moved);
      clearInterval(ticking);
    };
  }, []);
  useEffect(() => {
    if (note === "") return;
    const over = setTimeout(() => setNote(""), 8000);
    return () => clearTimeout(over);
  }, [note]);

  const steers = access?.signedIn === true && access.csrf !== null && access.csrf !== "";
  const orders: Orders | null = steers ? { csrf: access.csrf ?? "", say: setNote } : null;
  const clock = now + (known?.clockMs ?? 0);
  const [, runnerId, id] = /^#\/([^/]+)\/([^/]+)$/.exec(place) ?? [];
  const job =
    id === undefined || runnerId === undefined || known === null
      ? undefined
      : [...known.jobs, ...known.finished].find(
          (one) => keyOf(one) === `${decodeURIComponent(runnerId)}/${decodeURIComponent(id)}`,
        );
  const leave = async (): Promise<void> => {
    await order("sign-out", orders?.csrf ?? "");
    setKnown(null);
    ask();
  };

  return (
    <>
      <header>
        <h1>
          <a href="#/">
            <img src="/icon.svg" alt="" width="26" height="26" /> alloy-runner
          </a>
        </h1>
        {known !== null && <Head known={known} />}
        {orders !== null && (
          <div class="orders">
            <OrderButton orders={orders} path="reload" label="Reload the configuration">
              Reload
            </OrderButton>
            <OrderButton
              orders={orders}
              path="drain"
              label="Drain: end after the running jobs"
              ask="End after the running jobs?"
            >
              Drain
            </OrderButton>
            <button type="button" onClick={() => void leave()}>
              Sign out
            </button>
          </div>
        )}
      </header>
      <p class={note === "" ? "note" : "note shown"} role="status">
        {note}
      </p>
      <main>
        {access !== null && !access.signedIn && <SignIn onDone={ask} />}
        {access?.signedIn === true && known === null && <p class="quiet">Asking the runner …</p>}
        {known !== null && id === undefined && <Overview known={known} now={clock} orders={orders} />}
        {known !== null && id !== undefined && <JobPage key={place} job={job} now={clock} orders={orders} />}
      </main>
    </>
  );
}

function Head({ known }: { readonly known: Known }) {
  const { state, live, jobs, concurrent, version, config } = known;
  const shown = live ? state : "no connection";
  return (
    <p class="facts">
      <span class={`doing ${live ? state : "lost"}`}>{shown}</span>
      <span>
        <b>{jobs.length}</b> in progress, concurrent {concurrent}
      </span>
      <span class="quiet">{version.split(" ", 1)[0]}</span>
      <span class="quiet cut" title={config}>
        {config}
      </span>
    </p>
  );
}

const root = document.getElementById("page");
if (root !== null) render(<Page />, root);
