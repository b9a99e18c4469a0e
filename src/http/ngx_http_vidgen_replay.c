#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_replay.h"
#include "http/ngx_http_vidgen_response.h"
#include "shm/ngx_vidgen_metric.h"


static ngx_int_t ngx_http_vidgen_replay_digests(
    ngx_http_vidgen_operation_t *op, u_char *key, u_char *fingerprint);


ngx_int_t
ngx_http_vidgen_replay_find(ngx_http_vidgen_operation_t *op)
{
    u_char                    key[NGX_VIDGEN_SHA256_LEN];
    u_char                    fingerprint[NGX_VIDGEN_SHA256_LEN];
    ngx_vidgen_seen_value_t  *value;

    if (ngx_http_vidgen_replay_digests(op, key, fingerprint) != NGX_OK) {
        return NGX_DECLINED;
    }

    value = &op->replay;

    if (ngx_vidgen_seen_peek(op->mcf->zone, key, value, &op->seen) != NGX_OK) {
        return NGX_DECLINED;
    }

    /* a mismatch is the database's to say; so is what may have expired */

    if (ngx_memcmp(value->fingerprint, fingerprint, sizeof(value->fingerprint))
        != 0
        || value->age >= op->mcf->idempotency_ttl / 1000
        || value->job_status > NGX_VIDGEN_STATUS_FAILED
        || ngx_vidgen_provider_find_crc(&op->mcf->providers, value->provider)
           == NULL)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_vidgen_replay_send(ngx_http_vidgen_operation_t *op)
{
    u_char                        *p;
    ngx_http_request_t            *r;
    ngx_http_vidgen_ctx_t         *ctx;
    ngx_http_vidgen_generation_t   generation;

    r = op->task.request;
    ctx = op->task.ctx;

    p = ngx_pnalloc(r->pool, NGX_VIDGEN_UUID_LEN + NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    generation.job_id.data = p;
    p = ngx_vidgen_uuid_print(p, op->replay.job);
    generation.job_id.len = p - generation.job_id.data;

    generation.estimated_time.data = p;
    generation.estimated_time.len = 0;

    if (op->replay.estimated_time) {
        generation.estimated_time.len = ngx_sprintf(p, "%uD",
                                                op->replay.estimated_time) - p;
    }

    generation.provider = ngx_vidgen_provider_find_crc(&op->mcf->providers,
                                                  op->replay.provider)->name;
    generation.status = ngx_vidgen_status_names[op->replay.job_status];

    ctx->replay = 1;
    ctx->job_id = generation.job_id;
    ctx->provider = generation.provider;
    ctx->job_status = generation.status;
    ngx_str_set(&ctx->outcome, "replay");

    ngx_vidgen_metric_add(op->mcf->zone, NGX_VIDGEN_GENERATE_REPLAY, 1);

    if (ngx_http_vidgen_add_replay(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_vidgen_send_generation(r, op->replay.http_status,
                                           &generation);
}


void
ngx_http_vidgen_replay_remember(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_submitted_row_t *row)
{
    u_char                    key[NGX_VIDGEN_SHA256_LEN];
    u_char                    fingerprint[NGX_VIDGEN_SHA256_LEN];
    ngx_int_t                 estimated;
    ngx_uint_t                status;
    ngx_vidgen_seen_value_t   value;

    ngx_memzero(&value, sizeof(ngx_vidgen_seen_value_t));

    status = ngx_vidgen_status_find(&row->status);

    if (!ngx_vidgen_store_is(&row->http_status, "200")
        || status == NGX_VIDGEN_STATUS_NONE
        || ngx_http_vidgen_replay_digests(op, key, fingerprint) != NGX_OK
        || ngx_vidgen_uuid_parse(&row->job, value.job) != NGX_OK)
    {
        return;
    }

    estimated = ngx_atoi(row->estimated_time.data, row->estimated_time.len);

    value.estimated_time = estimated > 0 ? estimated : 0;
    value.provider = ngx_crc32_long(row->provider.data, row->provider.len);
    value.http_status = NGX_HTTP_OK;
    value.job_status = status;
    ngx_memcpy(value.fingerprint, fingerprint, sizeof(value.fingerprint));

    ngx_vidgen_seen_done(op->mcf->zone, key, &value, &op->seen);
}


/* NGX_DECLINED: there is no key */
static ngx_int_t
ngx_http_vidgen_replay_digests(ngx_http_vidgen_operation_t *op, u_char *key,
    u_char *fingerprint)
{
    ngx_str_t  bytes;

    if (op->input.key.len == 0) {
        return NGX_DECLINED;
    }

    bytes.data = key;

    if (ngx_vidgen_text_unhex(&bytes, &op->input.key) != NGX_OK) {
        return NGX_DECLINED;
    }

    bytes.data = fingerprint;

    return ngx_vidgen_text_unhex(&bytes, &op->input.fingerprint);
}
