/* furlong-core for firmware written in C: a language model from flash, without a heap.
 *
 * Written by `cargo run -p furlong-header` in runtime/c, from src/lib.rs. */

#ifndef FURLONG_H
#define FURLONG_H

#include <stddef.h>
#include <stdint.h>

/*
 Eight-byte words that a session takes.
 */
#define FURLONG_SESSION_WORDS 128

/*
 What a call says. Errors are negative; `furlong_explain` has words for all.
 */
enum FurlongStatus
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /*
   All is well.
   */
  FURLONG_STATUS_OK = 0,
  /*
   Some work was done: call again.
   */
  FURLONG_STATUS_WORKED = 1,
  /*
   The next token of the answer is there: call again for more.
   */
  FURLONG_STATUS_TOKEN = 2,
  /*
   The answer is whole: the model ended it, or the number of tokens asked for is reached.
   */
  FURLONG_STATUS_FINISHED = 3,
  /*
   The answer ends because the context is full.
   */
  FURLONG_STATUS_CONTEXT_ENDED = 4,
  /*
   A pointer is null, a text isn't UTF-8, or the call doesn't fit what the session is doing.
   */
  FURLONG_STATUS_USAGE = -1,
  /*
   The plan is not one, of another version, damaged, or contradicts itself.
   */
  FURLONG_STATUS_PLAN = -2,
  /*
   The plan is packed for instructions that this CPU, or this build of the library, doesn't have.
   */
  FURLONG_STATUS_INSTRUCTIONS = -3,
  /*
   The arena is too small: `furlong_arena_bytes` says how large it must be.
   */
  FURLONG_STATUS_ARENA = -4,
  /*
   The text has more tokens than the context has room for.
   */
  FURLONG_STATUS_CONTEXT = -5,
  /*
   A kernel refused its work. For a plan that was opened this is a bug.
   */
  FURLONG_STATUS_KERNEL = -6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum FurlongStatus FurlongStatus;
#else
typedef int32_t FurlongStatus;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 A session: memory for the library's state, which the caller owns. Open it before anything else; what lies in it is the library's.
 It may be moved only before it is opened.
 */
typedef struct FurlongSession {
  /*
   The library's.
   */
  uint64_t words[FURLONG_SESSION_WORDS];
} FurlongSession;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 How many bytes of arena a plan needs, wherever the arena starts; 0 when it is not a plan. The plan is checked for that.

 # Safety
 `plan` must be null or have `plan_bytes` readable bytes.
 */
size_t furlong_arena_bytes(const uint8_t *plan,
                           size_t plan_bytes);

/*
 Checks a plan and makes a session that works in `arena`. The plan starts at a multiple of 4, better of 64; both must stay where they are,
 and the arena must be left alone, for as long as the session is used.

 # Safety
 `session` must be null or point to a session's memory, `plan` and `arena` have as many bytes as is said.
 */
FurlongStatus furlong_open(struct FurlongSession *session,
                           const uint8_t *plan,
                           size_t plan_bytes,
                           uint8_t *arena,
                           size_t arena_bytes);

/*
 Begins to answer a text in UTF-8: what the session held before is forgotten. Splitting the text into tokens takes time in
 proportion to the square of its length.

 # Safety
 `session` must be one that was opened, `text` have `text_bytes` readable bytes.
 */
FurlongStatus furlong_ask(struct FurlongSession *session,
                          const char *text,
                          size_t text_bytes,
                          uint32_t most_tokens);

/*
 As `furlong_ask`, of tokens.

 # Safety
 `session` must be one that was opened, `tokens` have `count` readable tokens.
 */
FurlongStatus furlong_ask_tokens(struct FurlongSession *session,
                                 const uint32_t *tokens,
                                 size_t count,
                                 uint32_t most_tokens);

/*
 Does a bounded amount of work on the answer: feed the watchdog, then call it again. With `FURLONG_STATUS_TOKEN` the token is in
 `token`.

 # Safety
 `session` must be one that was opened, `token` null or writable.
 */
FurlongStatus furlong_step(struct FurlongSession *session,
                           uint32_t *token);

/*
 The bytes of text that a token stands for: a pointer into the plan, and their number in `count`. They may be a part of a character:
 whole characters are only whole after the next token. Null for special tokens, such as the end of the text.

 # Safety
 `session` must be one that was opened, `count` writable.
 */
const uint8_t *furlong_piece(struct FurlongSession *session,
                             uint32_t token,
                             size_t *count);

/*
 A status in words, for a log. A number that is no status is said to be that.
 */
const char *furlong_explain(int32_t status);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FURLONG_H */
