/** What a commit does to one path of a run's artifact space. */
export interface FileChange {
  path: string;
  /** SHA-256 of the content, lower-case hex; null when the path is removed. */
  sha256: string | null;
  /** Of the content; 0 when the path is removed. */
  bytes: number;
  /** As the uploader declared it. */
  content_type: string;
}

/** What a path of a run's artifact space holds, or held, from one commit on. The content lies in R2 (docs/artifacts.md). */
export interface FileVersion extends FileChange {
  /** Seq of the commit that made it. */
  version: number;
  ts_ms: number;
}
