import { clone, create, toBinary } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { setTimeout as sleep } from "node:timers/promises";
import { v7 as uuid7 } from "uuid";

import { codeName, planAfter, REFUSALS } from "./plan.js";
import {
  type InteractionService,
  type PublishInteractionsRequest,
  PublishInteractionsRequestSchema,
  type PublishInteractionStreamRequest,
  PublishInteractionStreamRequestSchema,
  type PublishInteractionStreamResponse,
} from "./reflexio/v1/interaction_service_pb.js";

// A verdict lists 1,000 rejections, so none of a segment's goes unlisted.
const SEGMENT_REQUESTS = 1000;
const SEGMENT_BYTES = 8 * 1024 * 1024;
/** Of a message with several requests: beyond, packing saves little. */
const PACKED_BYTES = 64 * 1024;
/** How often a request is sent at which the server itself fails. */
const MOST_ATTEMPTS = 8;
const KEPT_REJECTIONS = 1000;
const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 5000;
const TRANSIENT_REASONS = new Set(["TOO_BUSY", "DRAINING", "DISK_FULL", "STORAGE_UNAVAILABLE"]);

/** What became of a number of things. */
export interface Counts {
  /** Stored by this call. */
  stored: number;
  /** Had been stored before, perhaps by an attempt of this very call whose answer was lost. */
  duplicate: number;
  /** Will not be stored, however often they are sent. */
  rejected: number;
}

/** A request that was refused. */
export interface Rejection {
  /** Its position among the requests given, from 0. */
  index: number;
  requestId: string;
  /**
   * The name of an ErrorReason of the contract, such as "INVALID_FIELD", or of a gRPC code when a stream with this
   * request alone is refused.
   */
  reason: string;
  /** The field that is wrong; may be empty. */
  field: string;
  /** What is wrong and what to do, for a person. */
  message: string;
}

/** What became of everything that is settled. What is not counted here may or may not be stored. */
export interface BulkResult {
  requests: Counts;
  /** Of what is in the requests. */
  interactions: Counts;
  /** The first 1,000, in the order they became known. */
  rejections: Rejection[];
}

export interface BulkOptions {
  /**
   * How long to go on without any progress, while the server cannot be reached or is busy, in milliseconds.
   * Default 2 minutes.
   */
  patienceMs?: number;
  /** Ends the publishing between or within streams. */
  signal?: AbortSignal;
  /** Called after each stream with the result so far. */
  onProgress?: (result: BulkResult) => void;
  /** Called for each rejection: the result keeps the first 1,000. */
  onRejection?: (rejection: Rejection) => void;
}

/** Publishing stopped before the end; `cause` says why. */
export class BulkInterruptedError extends Error {
  override name = "BulkInterruptedError";

  constructor(
    /** What became of the requests until then. */
    readonly result: BulkResult,
    cause: unknown,
  ) {
    super(`publishMany stopped after ${settled(result.requests)} settled requests: ${String(cause)}`, { cause });
  }
}

/**
 * Stores the requests, all but those that the server refuses.
 *
 * Requests go out in segments of up to 1,000 requests or 8 MiB, a stream for each, and no more than one segment is in
 * memory; from the second stream on, several requests share a message where the server takes that. A segment whose
 * stream breaks is sent again: what was stored counts as duplicate then. For this every request needs a requestId; one
 * without gets a new one, in a copy.
 *
 * It waits and repeats while the server is away or busy, for as long as it is told in RetryInfo or, with jitter, for
 * longer each time.
 *
 * @throws BulkInterruptedError when it could not go on.
 */
export async function publishMany(
  client: Client<typeof InteractionService>,
  requests: Iterable<PublishInteractionsRequest> | AsyncIterable<PublishInteractionsRequest>,
  options: BulkOptions = {},
): Promise<BulkResult> {
  const publisher = new Publisher(client, options);
  for await (const request of requests) {
    if (publisher.add(request)) {
      await publisher.settle();
    }
  }
  await publisher.settle();
  return publisher.result;
}

interface Row {
  index: number;
  request: PublishInteractionsRequest;
  bytes: number;
  attempts: number;
}

class Publisher {
  readonly result: BulkResult = {
    requests: { stored: 0, duplicate: 0, rejected: 0 },
    interactions: { stored: 0, duplicate: 0, rejected: 0 },
    rejections: [],
  };
  /** Of the segment at hand, those that are not settled. */
  #rows: Row[] = [];
  #bytes = 0;
  #nextIndex = 0;
  /**
   * How many requests a message may carry. Until a verdict has said more, one: a server of before takes a message with
   * several for an empty one.
   */
  #perMessage = 1;
  readonly #patienceMs: number;

  constructor(
    readonly client: Client<typeof InteractionService>,
    readonly options: BulkOptions,
  ) {
    this.#patienceMs = options.patienceMs ?? 120_000;
  }

  /** Takes a request; true when the segment is full. */
  add(given: PublishInteractionsRequest): boolean {
    const request = withId(given);
    const bytes = toBinary(PublishInteractionsRequestSchema, request).length;
    this.#rows.push({ index: this.#nextIndex++, request, bytes, attempts: 0 });
    this.#bytes += bytes;
    return this.#rows.length === SEGMENT_REQUESTS || this.#bytes >= SEGMENT_BYTES;
  }

  /** Sends the segment until nothing of it is left. */
  async settle(): Promise<void> {
    this.#bytes = 0;
    let limit = SEGMENT_REQUESTS;
    let waitMs = FIRST_WAIT_MS;
    let lastProgress = Date.now();
    while (this.#rows.length > 0) {
      const leftMs = lastProgress + this.#patienceMs - Date.now();
      const batch = this.#rows.slice(0, limit);
      try {
        // Half of what is left: a stream that hangs must leave time for another.
        this.#read(await this.#send(batch, Math.max(1, Math.ceil(leftMs / 2))), batch);
      } catch (caught) {
        const error = ConnectError.from(caught);
        const plan = planAfter(error);
        if (plan.hopeless || this.options.signal?.aborted) {
          throw new BulkInterruptedError(this.result, caught);
        }
        if (plan.poison && batch.length === 1) {
          this.#reject(batch[0]!, { reason: codeName(error.code), field: "", message: error.rawMessage });
          this.#rows.shift();
        } else {
          if (plan.halve) {
            limit = Math.max(1, Math.floor(batch.length / 2));
          }
          if (!plan.poison) {
            // Full jitter, so that clients do not come back all at once.
            const pauseMs = plan.retryAfterMs + Math.random() * waitMs;
            if (pauseMs > leftMs) {
              throw new BulkInterruptedError(this.result, caught);
            }
            await this.#pause(pauseMs);
            waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 2);
          }
          continue;
        }
      }
      limit = Math.min(SEGMENT_REQUESTS, limit * 2);
      waitMs = FIRST_WAIT_MS;
      lastProgress = Date.now();
      this.options.onProgress?.(this.result);
    }
  }

  async #pause(milliseconds: number): Promise<void> {
    try {
      await sleep(milliseconds, undefined, { signal: this.options.signal });
    } catch (error) {
      throw new BulkInterruptedError(this.result, error);
    }
  }

  async #send(batch: Row[], timeoutMs: number): Promise<PublishInteractionStreamResponse> {
    const most = this.#perMessage;
    const { signal } = this.options;
    const verdict = await this.client.publishInteractionStream(messages(batch, most), { timeoutMs, signal });
    this.#perMessage = Math.max(1, verdict.requestsPerMessage);
    if (this.#perMessage < most) {
      // And so its verdict is on others than were sent.
      throw new ConnectError("another server answers now, which takes fewer requests in a message", Code.Unavailable);
    }
    return verdict;
  }

  /**
   * Takes the verdict on a batch; only what it leaves no doubt of is settled. Throws when it settles nothing or
   * contradicts itself.
   */
  #read(verdict: PublishInteractionStreamResponse, batch: Row[]): void {
    const counts = verdict.requests ?? { stored: 0, duplicate: 0, rejected: 0 };
    const handled = settled(counts);
    const listed = new Map(verdict.rejections.map((rejection) => [rejection.index, rejection]));
    if (handled > batch.length || listed.size > counts.rejected || [...listed.keys()].some((index) => index >= handled)) {
      throw new ConnectError("the server's verdict on a stream contradicts itself", Code.Internal);
    }
    // When more was rejected than is listed, what is not listed may be either.
    const certain = listed.size === counts.rejected;
    if (certain) {
      this.result.requests.stored += counts.stored;
      this.result.requests.duplicate += counts.duplicate;
      this.result.interactions.stored += verdict.interactions?.stored ?? 0;
      this.result.interactions.duplicate += verdict.interactions?.duplicate ?? 0;
    }
    const rest = batch.filter((row, index) => {
      const rejection = listed.get(index);
      if (rejection === undefined) {
        return !certain || index >= handled;
      }
      if (TRANSIENT_REASONS.has(rejection.reason)) {
        return true;
      }
      if (!REFUSALS.has(rejection.reason) && ++row.attempts < MOST_ATTEMPTS) {
        return true;
      }
      this.#reject(row, rejection);
      return false;
    });
    this.#rows.splice(0, batch.length, ...rest);
    if (rest.length === batch.length) {
      throw new ConnectError("the stream ended before anything was settled", Code.Unavailable);
    }
  }

  #reject(row: Row, { reason, field, message }: Pick<Rejection, "reason" | "field" | "message">): void {
    const rejection = { index: row.index, requestId: row.request.requestId, reason, field, message };
    this.result.requests.rejected++;
    this.result.interactions.rejected += row.request.interactions.length;
    if (this.result.rejections.length < KEPT_REJECTIONS) {
      this.result.rejections.push(rejection);
    }
    this.options.onRejection?.(rejection);
  }
}

/** Puts requests into messages of at most so many, in their order. */
async function* messages(batch: Row[], most: number): AsyncGenerator<PublishInteractionStreamRequest> {
  let requests: PublishInteractionsRequest[] = [];
  let size = 0;
  for (const { request, bytes } of batch) {
    if (most === 1) {
      yield create(PublishInteractionStreamRequestSchema, { request });
      continue;
    }
    if (requests.length === most || (requests.length > 0 && size + bytes > PACKED_BYTES)) {
      yield create(PublishInteractionStreamRequestSchema, { requests });
      requests = [];
      size = 0;
    }
    requests.push(request);
    size += bytes;
  }
  if (requests.length > 0) {
    yield create(PublishInteractionStreamRequestSchema, { requests });
  }
}

function withId(request: PublishInteractionsRequest): PublishInteractionsRequest {
  if (request.requestId !== "") {
    return request;
  }
  const copy = clone(PublishInteractionsRequestSchema, request);
  copy.requestId = `${request.source.replaceAll("_", "-") || "request"}_${uuid7()}`;
  return copy;
}

function settled(counts: Counts): number {
  return counts.stored + counts.duplicate + counts.rejected;
}
