/** A checkout made by one container's user is read by another's: git asks for that to be said. */
export function gitTrust(root: string): readonly (readonly [key: string, value: string])[] {
  return [["safe.directory", root]];
}

/** The same as variables of a container. */
export function gitTrustVariables(root: string): { readonly name: string; readonly value: string }[] {
  const settings = gitTrust(root);
  return [
    { name: "GIT_CONFIG_COUNT", value: String(settings.length) },
    ...settings.flatMap(([key, value], index) => [
      { name: `GIT_CONFIG_KEY_${index}`, value: key },
      { name: `GIT_CONFIG_VALUE_${index}`, value },
    ]),
  ];
}
