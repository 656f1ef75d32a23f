import type { JobLine } from "../../control/protocol.ts";
import type { Access } from "../shown.ts";

/** Orders and questions to the runner. */

export async function askAccess(): Promise<Access> {
  const answered = await fetch("/api/access");
  if (!answered.ok) throw new Error(await problemOf(answered));
  return await answered.json();
}

/** @returns why not, or null */
export async function signIn(password: string): Promise<string | null> {
  const bytes = new TextEncoder().encode(`:${password}`);
  const authorization = `Basic ${btoa(String.fromCharCode(...bytes))}`;
  const answered = await fetch("/api/sign-in", { method: "POST", headers: { authorization } });
  return answered.ok ? null : await problemOf(answered);
}

/** @returns what went wrong, or null */
export async function order(path: string, csrf: string): Promise<string | null> {
  try {
    const answered = await fetch(`/api/${path}`, { method: "POST", headers: { "x-csrf-token": csrf } });
    return answered.ok ? null : await problemOf(answered);
  } catch {
    return "The runner does not answer";
  }
}

export function cancelPath({ id, runnerId }: JobLine): string {
  return `jobs/${encodeURIComponent(id)}/cancel?runner=${encodeURIComponent(runnerId)}`;
}

export function tracePath({ id, runnerId }: JobLine, from: number): string {
  return `/api/jobs/${encodeURIComponent(id)}/trace?follow=1&from=${from}&runner=${encodeURIComponent(runnerId)}`;
}

async function problemOf(answered: Response): Promise<string> {
  const body: unknown = await answered.json().catch(() => null);
  const told = typeof body === "object" && body !== null && "problem" in body ? body.problem : null;
  return typeof told === "string" ? told : `The runner answered ${answered.status}`;
}
