/** glibc, and musl under the names that Alpine and others have for it. */
const LIBRARIES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libc.so"];

/** How a function of C is called; the names are those of `bun:ffi`. */
export interface Signature {
  readonly args: readonly ("i32" | "i64" | "ptr")[];
  readonly returns: "i32" | "i64";
}

/** A function of C. Bytes are handed over where its signature has `ptr`. */
export type NativeFunction = (...args: readonly (number | bigint | Uint32Array)[]) => unknown;

/**
 * A function of Linux's C library, for what neither runtime has a call. Bun, which releases are built on, can call it; under
 * Node, on other systems, and where it is not found, `null`.
 */
export async function findNative(name: string, signature: Signature): Promise<NativeFunction | null> {
  if (process.platform !== "linux" || Reflect.get(globalThis, "Bun") === undefined) return null;
  // The name stands in a variable, because bundler and compiler would look for a module that does not exist there.
  const module = "bun:ffi";
  const ffi: unknown = await import(module).catch(() => null);
  if (!hasDlopen(ffi)) return null;
  for (const library of LIBRARIES) {
    try {
      return ffi.dlopen(library, { [name]: signature }).symbols[name] ?? null;
    } catch {
      // This machine does not have the library.
    }
  }
  return null;
}

interface Ffi {
  dlopen(
    library: string,
    functions: Readonly<Record<string, Signature>>,
  ): { readonly symbols: Readonly<Record<string, NativeFunction>> };
}

function hasDlopen(module: unknown): module is Ffi {
  return typeof module === "object" && module !== null && "dlopen" in module && typeof module.dlopen === "function";
}
