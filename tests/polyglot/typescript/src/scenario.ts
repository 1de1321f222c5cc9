import { create, type DescMessage, type DescMethodUnary, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import {
  AuthService,
  DeleteInteractionResponseSchema,
  DeleteRequestGroupResponseSchema,
  DeleteRequestResponseSchema,
  DeleteUserResponseSchema,
  GetRequestsRequestSchema,
  ImageSchema,
  type Interaction,
  InteractionService,
  Order,
  type PublishInteractionsRequest,
  PublishInteractionsRequestSchema,
  SearchInteractionsRequestSchema,
  UserAction,
} from "reflexio";

import { asJson, Client, failure, OpenStream, publishRequest, type Report, say, verdictAsJson } from "./client.js";

// What the sections are given; the scenario is written in JSON.
interface Row {
  name: string;
  rpc: string;
  key?: string;
  sent_as?: "Image";
  request: JsonValue;
}
interface Held {
  seconds: number;
  user_id: string;
  request_ids: string[];
  rest: string[];
}

export class Scenario {
  readonly #client: Client;
  readonly #troubledAddress: string;
  readonly #email = process.env["REFLEXIO_EMAIL"]!;
  readonly #password = process.env["REFLEXIO_PASSWORD"]!;
  #keyId = "";

  constructor(address: string, troubledAddress: string) {
    this.#client = new Client(address);
    this.#troubledAddress = troubledAddress;
  }

  async run(sections: Record<string, { given: any }>): Promise<Report> {
    const steps: Record<string, (given: any) => Promise<unknown>> = {
      login: () => this.login(),
      who_am_i: () => this.whoAmI(),
      images: (given) => this.images(given),
      unicode: (given) => this.unicode(given),
      replay: (given) => this.replay(given),
      stream: (given) => this.stream(given),
      malformed_in_stream: (given) => this.malformedInStream(given),
      search: (given) => this.search(given),
      paging: (given) => this.paging(given),
      threads: (given) => this.threads(given),
      errors: (given) => this.errors(given),
      erasing: (given) => this.erasing(given),
      deadline: (given) => this.deadline(given),
      cancellation: (given) => this.cancellation(given),
      revoked_key: () => this.revokedKey(),
      trouble: (given) => this.trouble(given),
    };
    const report: Report = {};
    for (const [name, step] of Object.entries(steps)) {
      report[name] = await step(sections[name]!.given);
    }
    return report;
  }

  async login() {
    const { apiKey, keyId } = await this.#client.logIn(this.#email, this.#password);
    this.#keyId = keyId;
    return { key_prefix: apiKey.slice(0, 5), key_length: apiKey.length };
  }

  async whoAmI() {
    const { account, apiKey } = await this.#client.auth.whoAmI({});
    return {
      same_email: account?.email === this.#email,
      same_key: apiKey?.keyId === this.#keyId,
      revoked: apiKey?.revokedAt !== undefined,
    };
  }

  async images(given: { request: JsonValue }) {
    const request = publishRequest(given.request);
    const { interactionIds, replayed, searchable } = await this.#client.interactions.publishInteractions(request);
    const stored = await this.#client.listed({ userId: request.userId, includeImages: true });
    const images = await Promise.all(stored.map((found, i) => this.#image(request.interactions[i]!.image, found)));
    return { published: interactionIds.length, replayed, searchable, images };
  }

  async #image(sent: Uint8Array, { interactionId, content, image }: Interaction) {
    const chunks = await this.#client.image(interactionId);
    const data = image!.data;
    return {
      content,
      media_type: image!.mediaType,
      width: image!.width,
      height: image!.height,
      size_bytes: image!.sizeBytes,
      data_omitted: image!.dataOmitted,
      bytes_in_page: data.length,
      same_sha256: createHash("sha256").update(sent).digest().equals(image!.sha256),
      chunks: chunks.map((chunk) => chunk.length),
      same_bytes: Buffer.concat(chunks).equals(sent) && (data.length === 0 || Buffer.from(data).equals(sent)),
    };
  }

  async unicode({ user_id: userId, request_id: requestId, texts }: { user_id: string; request_id: string; texts: string[] }) {
    const interactions = texts.map((content) => ({ content }));
    await this.#client.interactions.publishInteractions({ userId, requestId, interactions });
    const stored = await this.#client.listed({ userId });
    return { user_id: stored[0]?.userId, request_id: stored[0]?.requestId, contents: contents(stored) };
  }

  async replay(given: { request: JsonValue; published_before: JsonValue }) {
    const publish = (request: JsonValue) => this.#client.interactions.publishInteractions(publishRequest(request));
    const first = await publish(given.request);
    const again = await publish(given.request);
    const before = await publish(given.published_before);
    return {
      first_replayed: first.replayed,
      again_replayed: again.replayed,
      same_ids: first.interactionIds.join() === again.interactionIds.join(),
      published_before_replayed: before.replayed,
    };
  }

  async stream(given: {
    count: number;
    user_id: string;
    bad: { index: number; request: JsonValue }[];
    duplicates: [number, number][];
  }) {
    const requests = Array.from({ length: given.count }, (_, i) =>
      create(PublishInteractionsRequestSchema, {
        userId: given.user_id,
        requestId: `stream_${i}`,
        interactions: [{ userAction: UserAction.CLICK }],
      }),
    );
    for (const [index, of] of given.duplicates) {
      requests[index] = requests[of]!;
    }
    for (const { index, request } of given.bad) {
      requests[index] = publishRequest(request);
    }
    return { first: verdictAsJson(await this.#client.stream(requests)), again: verdictAsJson(await this.#client.stream(requests)) };
  }

  async malformedInStream(given: { malformed: string; request: JsonValue }) {
    // An Image's first field is bytes where the RPC's message has the request.
    const broken = create(ImageSchema, { sha256: Buffer.from(given.malformed, "base64") });
    const good = create(ImageSchema, {
      sha256: toBinary(PublishInteractionsRequestSchema, publishRequest(given.request)),
    });
    const method = { ...InteractionService.method.publishInteractionStream, input: ImageSchema };
    async function* messages() {
      yield* [broken, good];
    }
    const response = await this.#client.transport.stream(method, undefined, undefined, undefined, messages());
    for await (const verdict of response.message) {
      return verdictAsJson(verdict);
    }
    throw new Error("there was no verdict");
  }

  async search(given: { requests: JsonValue[]; searches: { name: string; request: JsonValue }[] }) {
    for (const request of given.requests) {
      await this.#client.interactions.publishInteractions(publishRequest(request));
    }
    const report: Report = {};
    for (const { name, request } of given.searches) {
      const wanted = fromJson(SearchInteractionsRequestSchema, request);
      const { hits, unindexedCount } = await this.#client.interactions.searchInteractions(wanted);
      report[name] = {
        contents: hits.map((hit) => hit.interaction?.content),
        unindexed_count: unindexedCount,
        scores_fall: hits.every((hit, i) => i === 0 || hits[i - 1]!.score >= hit.score),
      };
    }
    return report;
  }

  async paging(given: { user_id: string; requests: number; interactions: number; page_size: number }) {
    const { user_id: userId, interactions: size, page_size: pageSize } = given;
    for (let i = 0; i < given.requests; i++) {
      const interactions = Array.from({ length: size }, (_, j) => ({ content: `line ${i * size + j}` }));
      await this.#client.interactions.publishInteractions({ userId, interactions });
    }
    const late = "after the first page";
    const newestFirst: string[] = [];
    for await (const page of this.#client.pages({ userId, pageSize })) {
      newestFirst.push(...contents(page));
    }
    const oldestFirst: string[][] = [];
    for await (const page of this.#client.pages({ userId, pageSize, order: Order.OLDEST_FIRST })) {
      if (oldestFirst.push(contents(page)) === 1) {
        await this.#client.interactions.publishInteractions(say(userId, late));
      }
    }
    const everything = await this.#client.listed({ pageSize: 1000 });
    return {
      page_sizes: oldestFirst.map((page) => page.length),
      contents: oldestFirst.flat(),
      newest_first: newestFirst,
      late_in_pages: oldestFirst.flat().includes(late),
      everything: everything.length,
      distinct: new Set(everything.map(({ interactionId }) => interactionId)).size,
    };
  }

  async threads(given: { requests: JsonValue[]; reads: { name: string; request: JsonValue }[] }) {
    for (const request of given.requests) {
      await this.#client.interactions.publishInteractions(publishRequest(request));
    }
    const report: Report = {};
    for (const { name, request } of given.reads) {
      report[name] = await this.#threads(request);
    }
    return report;
  }

  /** The threads of each page, with what was said in each request. */
  async #threads(given: JsonValue): Promise<unknown[]> {
    const request = fromJson(GetRequestsRequestSchema, given);
    const pages: unknown[] = [];
    do {
      const { requestGroups, nextPageToken } = await this.#client.interactions.getRequests(request);
      pages.push(
        requestGroups.map(({ requestGroup, requests }) => ({
          request_group: requestGroup,
          requests: requests.map(({ interactions }) => contents(interactions)),
        })),
      );
      request.pageToken = nextPageToken;
    } while (request.pageToken !== "");
    return pages;
  }

  async errors(rows: Row[]) {
    const report: Report = {};
    for (const row of rows) {
      report[row.name] = await failure(this.#refused(row));
    }
    return report;
  }

  /** Makes a call that must fail. */
  async #refused(row: Row): Promise<void> {
    const client = row.key === undefined ? this.#client : new Client(this.#client.address);
    client.key = row.key ?? this.#client.key;
    const service = camel(row.rpc) in AuthService.method ? AuthService : InteractionService;
    const method = (service.method as Record<string, DescMethodUnary>)[camel(row.rpc)]!;
    if (row.rpc === "GetImage") {
      const request = fromJson(method.input, row.request) as unknown as { interactionId: string };
      await client.image(request.interactionId);
      return;
    }
    // An Image has bytes where the RPC has text, to send what is not UTF-8.
    const input: DescMessage = row.sent_as === "Image" ? ImageSchema : method.input;
    const message = fromJson(input, row.request);
    await client.transport.unary({ ...method, input }, undefined, undefined, undefined, message);
  }

  async erasing(given: { requests: JsonValue[] }) {
    const stub = this.#client.interactions;
    const requests = given.requests.map(publishRequest);
    const [partly, whole, threaded] = requests as [PublishInteractionsRequest, PublishInteractionsRequest, PublishInteractionsRequest];
    const { userId } = partly;
    const ids: string[][] = [];
    for (const request of requests) {
      ids.push((await stub.publishInteractions(request)).interactionIds);
    }
    const interaction = await stub.deleteInteraction({ userId, interactionId: ids[0]![0]! });
    const again = await stub.publishInteractions(partly);
    const request = await stub.deleteRequest({ requestId: whole.requestId });
    return {
      interaction: asJson(DeleteInteractionResponseSchema, interaction),
      replayed: again.replayed,
      same_ids: again.interactionIds.join() === ids[0]!.join(),
      request: asJson(DeleteRequestResponseSchema, request),
      erased_request: await failure(stub.publishInteractions(whole)),
      in_stream: verdictAsJson(await this.#client.stream([whole, partly])),
      request_group: asJson(
        DeleteRequestGroupResponseSchema,
        await stub.deleteRequestGroup({ userId, requestGroup: threaded.requestGroup }),
      ),
      left: contents(await this.#client.listed({ userId })),
      user: asJson(DeleteUserResponseSchema, await stub.deleteUser({ userId })),
      again: await failure(stub.deleteUser({ userId })),
    };
  }

  async deadline({ seconds, user_id: userId, request_ids: ids }: Held) {
    const requests = ids.map((id) => say(userId, id));
    const stream = new OpenStream(this.#client, requests, { timeoutMs: seconds * 1000 });
    const { code } = await failure(stream.verdict);
    stream.close();
    return { code, stored: await this.#client.waitFor(userId, ids.length) };
  }

  async cancellation({ user_id: userId, request_ids: ids, rest }: Held) {
    const abort = new AbortController();
    const requests = ids.map((id) => say(userId, id));
    const stream = new OpenStream(this.#client, requests, { signal: abort.signal });
    await this.#client.waitFor(userId, ids.length);
    abort.abort();
    const { code } = await failure(stream.verdict);
    stream.close();
    const again = await this.#client.stream([...requests, ...rest.map((id) => say(userId, id))]);
    return { cancelled: code === "CANCELED", again: verdictAsJson(again) };
  }

  async revokedKey() {
    const other = new Client(this.#client.address);
    const { keyId } = await other.logIn(this.#email, this.#password);
    const revoke = async () => (await this.#client.auth.revokeApiKey({ keyId })).apiKey?.revokedAt !== undefined;
    return {
      before: (await other.auth.whoAmI({})).apiKey?.keyId === keyId,
      revoked: await revoke(),
      after: await failure(other.auth.whoAmI({})),
      revoked_again: await revoke(),
      listed_as_revoked: (await this.#client.auth.listApiKeys({})).apiKeys.filter((key) => key.revokedAt).length,
    };
  }

  async trouble(given: { publishes: number; image: string }) {
    const client = new Client(this.#troubledAddress);
    await client.logIn(this.#email, this.#password);
    const publish = (request: PublishInteractionsRequest) => client.interactions.publishInteractions(request);
    const held = new OpenStream(client, [say("holder", "held")], {});
    await client.waitFor("holder", 1);
    const report: Report = { no_free_stream: await failure(client.stream([])) };

    await cause("block_writes");
    const calls = Array.from({ length: given.publishes }, (_, i) => publish(say("busy", `busy_${i}`)));
    const refused = (await Promise.allSettled(calls)).filter((call) => call.status === "rejected");
    report["queue_full"] = await failure(Promise.reject(refused[0]?.reason));
    const expected = calls.length - refused.length;
    report["all_answered"] = (await client.waitFor("busy", expected)) === expected;

    await cause("fill_disk");
    const image = Buffer.from(given.image, "base64");
    report["disk_full"] = await failure(client.interactions.publishInteractions({ userId: "u", interactions: [{ image }] }));
    await cause("free_disk");
    report["unforeseen"] = await failure(client.interactions.searchInteractions({ query: "x" }));
    await cause("close_writer");
    report["draining"] = await failure(publish(say("late", "late")));
    await cause("stop");
    report["verdict"] = verdictAsJson(await held.verdict);
    held.close();
    report["stopped"] = (await failure(publish(say("late", "late"))))["code"];
    return report;
  }
}

const replies = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Asks the test for some trouble, and waits until it is there. */
async function cause(trouble: string): Promise<void> {
  console.log(trouble);
  await replies.next();
}

function contents(items: Interaction[]): string[] {
  return items.map(({ content }) => content);
}

function camel(rpc: string): string {
  return rpc.charAt(0).toLowerCase() + rpc.slice(1);
}
