/** The files of one job. Paths are as scripts see them, absolute, without a trailing slash. */
export interface Workspace {
  /** The checkout, `CI_PROJECT_DIR`: `/builds/7e3b05c2/0/group/project`. */
  readonly root: string;
  /** Private to this job and outside the checkout: file variables, git's credentials. Removed with the environment. */
  readonly tmpDir: string;
}
