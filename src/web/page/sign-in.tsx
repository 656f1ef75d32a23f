import { useState } from "preact/hooks";
import { signIn } from "./api.ts";

export function SignIn({ onDone }: { readonly onDone: () => void }) {
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const enter = async (form: HTMLFormElement): Promise<void> => {
    const password = new FormData(form).get("password");
    setBusy(true);
    const refused = await signIn(typeof password === "string" ? password : "").catch(
      () => "The runner does not answer",
    );
    setBusy(false);
    setProblem(refused ?? "");
    if (refused === null) onDone();
  };
  return (
    <form
      class="sign-in"
      onSubmit={(event) => {
        event.preventDefault();
        void enter(event.currentTarget);
      }}
    >
      <h2>Sign in</h2>
      <label>
        Password
        <input type="password" name="password" autocomplete="current-password" required autofocus />
      </label>
      <p class="quiet">It stands in the runner's configuration, as password in [web].</p>
      {problem !== "" && (
        <p class="notice" role="alert">
          {problem}
        </p>
      )}
      <button type="submit" disabled={busy}>
        Sign in
      </button>
    </form>
  );
}
