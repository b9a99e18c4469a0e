#ifndef _NGX_HTTP_VIDGEN_CONF_PROVIDER_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_CONF_PROVIDER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_provider.h"


/*
 * The vidgen_provider block.  Its parts and knobs are ordinary directives
 * with context bits of their own, so the module's command table lists them:
 * all but vidgen_provider itself are in NGX_HTTP_VIDGEN_KNOBS below.
 */

#define NGX_HTTP_VIDGEN_PROVIDER_CONF  0x0000000100000000ULL
#define NGX_HTTP_VIDGEN_SUBMIT_CONF    0x0000000200000000ULL
#define NGX_HTTP_VIDGEN_POLL_CONF      0x0000000400000000ULL
#define NGX_HTTP_VIDGEN_WEBHOOK_CONF   0x0000000800000000ULL
#define NGX_HTTP_VIDGEN_PROBE_CONF     0x0000001000000000ULL

#define NGX_HTTP_VIDGEN_ANSWER_CONF                                          \
    (NGX_HTTP_VIDGEN_SUBMIT_CONF|NGX_HTTP_VIDGEN_POLL_CONF)
#define NGX_HTTP_VIDGEN_REQUEST_CONF                                         \
    (NGX_HTTP_VIDGEN_ANSWER_CONF|NGX_HTTP_VIDGEN_PROBE_CONF)
#define NGX_HTTP_VIDGEN_READING_CONF                                         \
    (NGX_HTTP_VIDGEN_ANSWER_CONF|NGX_HTTP_VIDGEN_WEBHOOK_CONF)

/* the lists of a part, as offsets of their directives */
enum {
    NGX_HTTP_VIDGEN_ACCEPT = 0,
    NGX_HTTP_VIDGEN_REFUSE,
    NGX_HTTP_VIDGEN_RETRY,
    NGX_HTTP_VIDGEN_KEEP,
    NGX_HTTP_VIDGEN_REFUSED,
    NGX_HTTP_VIDGEN_UNKNOWN,
    NGX_HTTP_VIDGEN_OK,
    NGX_HTTP_VIDGEN_LISTS
};


/* vidgen_provider name { ... }: appends to the main configuration */
char *ngx_http_vidgen_conf_provider(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* submit, poll, webhook, probe { ... }; offset: the bit of its context */
char *ngx_http_vidgen_conf_part(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* knobs of the provider */
char *ngx_http_vidgen_conf_base(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_api_key(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* knobs of a request */
char *ngx_http_vidgen_conf_url(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_method(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_header(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_query(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_body(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_then(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_idempotent(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* knobs of an answer; path: offset in ngx_vidgen_reading_t */
char *ngx_http_vidgen_conf_path(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_status(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_condition(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_keep(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_codes(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_estimated_time(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
char *ngx_http_vidgen_conf_max_jobs(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* knobs of a webhook */
char *ngx_http_vidgen_conf_signature(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_secret(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_challenge(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_vidgen_conf_options(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#define NGX_HTTP_VIDGEN_KNOB(name, where, args, set, offset)                 \
    { ngx_string(name), NGX_HTTP_VIDGEN_##where##_CONF|args,                 \
      ngx_http_vidgen_conf_##set, NGX_HTTP_MAIN_CONF_OFFSET, offset, NULL }

#define NGX_HTTP_VIDGEN_PART(name, where)                                    \
    NGX_HTTP_VIDGEN_KNOB(name, PROVIDER, NGX_CONF_BLOCK|NGX_CONF_NOARGS,     \
                         part, NGX_HTTP_VIDGEN_##where##_CONF)

#define NGX_HTTP_VIDGEN_PATH(name, where, field)                             \
    NGX_HTTP_VIDGEN_KNOB(name, where, NGX_CONF_1MORE, path,                  \
                         offsetof(ngx_vidgen_reading_t, field))

#define NGX_HTTP_VIDGEN_LIST(name, where, args, set, list)                   \
    NGX_HTTP_VIDGEN_KNOB(name, where, args, set, NGX_HTTP_VIDGEN_##list)

/* entries of the command table */
#define NGX_HTTP_VIDGEN_KNOBS                                                \
    NGX_HTTP_VIDGEN_KNOB("base", PROVIDER, NGX_CONF_1MORE, base, 0),         \
    NGX_HTTP_VIDGEN_KNOB("api_key", PROVIDER, NGX_CONF_TAKE1, api_key, 0),   \
    NGX_HTTP_VIDGEN_KNOB("header", PROVIDER, NGX_CONF_TAKE2, header, 0),     \
                                                                             \
    NGX_HTTP_VIDGEN_PART("submit", SUBMIT),                                  \
    NGX_HTTP_VIDGEN_PART("poll", POLL),                                      \
    NGX_HTTP_VIDGEN_PART("webhook", WEBHOOK),                                \
    NGX_HTTP_VIDGEN_PART("probe", PROBE),                                    \
                                                                             \
    NGX_HTTP_VIDGEN_KNOB("url", REQUEST, NGX_CONF_TAKE1, url, 0),            \
    NGX_HTTP_VIDGEN_KNOB("method", REQUEST, NGX_CONF_TAKE1, method, 0),      \
    NGX_HTTP_VIDGEN_KNOB("header", REQUEST, NGX_CONF_TAKE2, header, 0),      \
    NGX_HTTP_VIDGEN_KNOB("query", REQUEST, NGX_CONF_TAKE2, query, 0),        \
    NGX_HTTP_VIDGEN_KNOB("body", ANSWER, NGX_CONF_2MORE, body, 0),           \
    NGX_HTTP_VIDGEN_KNOB("idempotent", SUBMIT, NGX_CONF_NOARGS,              \
                         idempotent, 0),                                     \
    NGX_HTTP_VIDGEN_KNOB("then", POLL, NGX_CONF_1MORE, then, 0),             \
                                                                             \
    NGX_HTTP_VIDGEN_PATH("job_id", READING, job_id),                         \
    NGX_HTTP_VIDGEN_PATH("attempt", WEBHOOK, attempt),                       \
    NGX_HTTP_VIDGEN_PATH("video_url", READING, video_url),                   \
    NGX_HTTP_VIDGEN_PATH("error", READING, error),                           \
    NGX_HTTP_VIDGEN_KNOB("status", READING, NGX_CONF_1MORE, status, 0),      \
    NGX_HTTP_VIDGEN_LIST("accept", ANSWER, NGX_CONF_1MORE, condition,        \
                         ACCEPT),                                            \
    NGX_HTTP_VIDGEN_LIST("refuse", ANSWER, NGX_CONF_1MORE, condition,        \
                         REFUSE),                                            \
    NGX_HTTP_VIDGEN_LIST("retry", ANSWER, NGX_CONF_1MORE, condition,         \
                         RETRY),                                             \
    NGX_HTTP_VIDGEN_LIST("keep", ANSWER, NGX_CONF_TAKE2, keep, KEEP),        \
    NGX_HTTP_VIDGEN_LIST("refused", SUBMIT, NGX_CONF_1MORE, codes, REFUSED), \
    NGX_HTTP_VIDGEN_LIST("unknown", SUBMIT, NGX_CONF_1MORE, codes, UNKNOWN), \
    NGX_HTTP_VIDGEN_LIST("ok", PROBE, NGX_CONF_1MORE, codes, OK),            \
    NGX_HTTP_VIDGEN_KNOB("estimated_time", SUBMIT, NGX_CONF_TAKE1,           \
                         estimated_time, 0),                                 \
    NGX_HTTP_VIDGEN_KNOB("max_jobs", SUBMIT, NGX_CONF_TAKE1, max_jobs, 0),   \
                                                                             \
    NGX_HTTP_VIDGEN_KNOB("signature", WEBHOOK, NGX_CONF_1MORE, signature,    \
                         0),                                                 \
    NGX_HTTP_VIDGEN_KNOB("secret", WEBHOOK, NGX_CONF_1MORE, secret, 0),      \
    NGX_HTTP_VIDGEN_KNOB("challenge", WEBHOOK, NGX_CONF_TAKE1, challenge,    \
                         0),                                                 \
    NGX_HTTP_VIDGEN_KNOB("options", WEBHOOK, NGX_CONF_TAKE1, options, 0)


#endif /* _NGX_HTTP_VIDGEN_CONF_PROVIDER_H_INCLUDED_ */
