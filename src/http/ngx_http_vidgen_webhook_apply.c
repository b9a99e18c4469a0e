#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_id.h"
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_process.h"
#include "http/ngx_http_vidgen_task.h"
#include "http/ngx_http_vidgen_webhook_answer.h"
#include "http/ngx_http_vidgen_webhook_apply.h"
#include "shm/ngx_vidgen_metric.h"


/* bodies that may have to be parked; larger ones are not kept */
#define NGX_HTTP_VIDGEN_PARKED_BODY_MAX  65536


typedef struct {
    ngx_http_vidgen_task_t     task;
    ngx_vidgen_store_apply_t   params;
    ngx_vidgen_provider_t     *provider;
    ngx_vidgen_zone_t         *zone;
    u_char                     digest[NGX_VIDGEN_SHA256_LEN];
    ngx_vidgen_seen_claim_t    claim;
    u_char                     hex[2 * NGX_VIDGEN_SHA256_LEN];
} ngx_http_vidgen_webhook_t;


typedef struct {
    ngx_str_t                  outcome;      /* of vidgen.apply */
    ngx_vidgen_metric_e        metric;
    ngx_uint_t                 log_level;    /* 0: no line */
} ngx_http_vidgen_webhook_outcome_t;


static ngx_int_t ngx_http_vidgen_webhook_identify(
    ngx_http_vidgen_webhook_t *webhook, ngx_http_vidgen_event_t *event,
    ngx_vidgen_result_t *result, ngx_msec_t ttl,
    ngx_http_vidgen_error_e *error);
static ngx_int_t ngx_http_vidgen_webhook_params(
    ngx_http_vidgen_webhook_t *webhook, ngx_http_vidgen_event_t *event,
    ngx_vidgen_result_t *result, ngx_msec_t ttl);
static ngx_uint_t ngx_http_vidgen_webhook_verdict(
    ngx_vidgen_provider_t *provider, ngx_vidgen_result_t *result);
static void ngx_http_vidgen_webhook_applied(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);
static void ngx_http_vidgen_webhook_remember(
    ngx_http_vidgen_webhook_t *webhook, ngx_vidgen_store_apply_row_t *row);
static void ngx_http_vidgen_webhook_report(ngx_http_vidgen_webhook_t *webhook,
    ngx_vidgen_store_apply_row_t *row);


static ngx_http_vidgen_webhook_outcome_t
    ngx_http_vidgen_webhook_outcomes[] = {

    { ngx_string("applied"), NGX_VIDGEN_WEBHOOK_APPLIED, 0 },
    { ngx_string("replay"), NGX_VIDGEN_WEBHOOK_REPLAY, 0 },
    { ngx_string("late"), NGX_VIDGEN_WEBHOOK_IGNORED, NGX_LOG_ERR },
    { ngx_string("ignored"), NGX_VIDGEN_WEBHOOK_IGNORED, NGX_LOG_WARN },
    { ngx_string("no_verdict"), NGX_VIDGEN_WEBHOOK_IGNORED, NGX_LOG_INFO },
    { ngx_string("parked"), NGX_VIDGEN_WEBHOOK_PARKED, NGX_LOG_NOTICE },
    { ngx_string("not_found"), NGX_VIDGEN_WEBHOOK_UNKNOWN_JOB, NGX_LOG_WARN },
    { ngx_string("mismatch"), NGX_VIDGEN_WEBHOOK_BAD_SIGNATURE,
      NGX_LOG_WARN },
    { ngx_null_string, 0, 0 }
};


ngx_int_t
ngx_http_vidgen_webhook_apply(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event)
{
    ngx_int_t                     rc;
    ngx_str_t                     detail;
    ngx_vidgen_result_t           result;
    ngx_http_vidgen_ctx_t        *ctx;
    ngx_http_vidgen_error_e       error;
    ngx_http_vidgen_webhook_t    *webhook;
    ngx_http_vidgen_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);
    ctx = ngx_http_vidgen_ctx(r, 0);

    webhook = ngx_http_vidgen_task_create(r, ctx,
                                          sizeof(ngx_http_vidgen_webhook_t));
    if (webhook == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    webhook->zone = mcf->zone;
    webhook->provider = event->provider;
    webhook->claim = event->claim;
    ngx_memcpy(webhook->digest, event->digest, NGX_VIDGEN_SHA256_LEN);

    ngx_str_null(&detail);

    rc = ngx_http_vidgen_event_parse(event, webhook->task.pool, &result,
                                     &error, &detail);
    if (rc == NGX_OK) {
        rc = ngx_http_vidgen_webhook_identify(webhook, event, &result,
                                              mcf->idempotency_ttl, &error);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_vidgen_task_call(&webhook->task, NGX_VIDGEN_STORE_APPLY,
                                       &webhook->params,
                                       ngx_http_vidgen_webhook_applied);
        if (rc == NGX_OK) {
            return NGX_DONE;
        }

        error = NGX_HTTP_VIDGEN_UNAVAILABLE;
        rc = NGX_DECLINED;
    }

    ngx_http_vidgen_task_destroy(&webhook->task);

    if (rc == NGX_DECLINED) {
        return ngx_http_vidgen_webhook_refuse(r, error, &detail);
    }

    if (rc == NGX_DONE) {
        return ngx_http_vidgen_send(r, NGX_HTTP_OK, &event->body);
    }

    return NGX_HTTP_INTERNAL_SERVER_ERROR;
}


/* whose result it is: by the attempt of the URL or of the body, by job id */
static ngx_int_t
ngx_http_vidgen_webhook_identify(ngx_http_vidgen_webhook_t *webhook,
    ngx_http_vidgen_event_t *event, ngx_vidgen_result_t *result,
    ngx_msec_t ttl, ngx_http_vidgen_error_e *error)
{
    u_char      bytes[16], text[NGX_VIDGEN_UUID_LEN];
    ngx_str_t   echoed, *attempt;

    attempt = &event->attempt;

    if (ngx_vidgen_uuid_parse(&result->attempt, bytes) == NGX_OK) {
        echoed.data = text;
        echoed.len = ngx_vidgen_uuid_print(text, bytes) - text;

        if (attempt->len && !ngx_vidgen_text_same(attempt, &echoed)) {
            *error = NGX_HTTP_VIDGEN_WRONG_JOB;
            return NGX_DECLINED;
        }

        attempt = &echoed;

    } else if (attempt->len == 0 && result->job_id.len == 0) {
        *error = NGX_HTTP_VIDGEN_BAD_FIELD;
        return NGX_DECLINED;
    }

    if (ngx_vidgen_store_copy(webhook->task.pool, &webhook->params.attempt,
                              attempt)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_vidgen_webhook_params(webhook, event, result, ttl);
}


static ngx_int_t
ngx_http_vidgen_webhook_params(ngx_http_vidgen_webhook_t *webhook,
    ngx_http_vidgen_event_t *event, ngx_vidgen_result_t *result,
    ngx_msec_t ttl)
{
    ngx_str_t                  none, *body;
    ngx_pool_t                *pool;
    ngx_vidgen_store_apply_t  *params;

    ngx_str_null(&none);

    pool = webhook->task.pool;
    params = &webhook->params;

    params->provider = webhook->provider->name;
    params->status = ngx_vidgen_status_names[result->status];

    if (result->status == NGX_VIDGEN_STATUS_NONE) {
        ngx_str_null(&params->status);
    }

    params->verdict = ngx_vidgen_store_boolean[
                   ngx_http_vidgen_webhook_verdict(webhook->provider, result)];
    params->first_provider = ngx_vidgen_store_boolean[
                                              webhook->provider->index == 0];
    ngx_str_set(&params->source, "webhook");

    params->digest.data = webhook->hex;
    params->digest.len = ngx_hex_dump(webhook->hex, webhook->digest,
                                      NGX_VIDGEN_SHA256_LEN)
                         - webhook->hex;

    body = event->body.len <= NGX_HTTP_VIDGEN_PARKED_BODY_MAX ? &event->body
                                                              : &none;

    if (ngx_vidgen_store_copy(pool, &params->provider_job_id,
                              &result->job_id) != NGX_OK
        || ngx_vidgen_store_copy(pool, &params->video_url,
                                 &result->video_url) != NGX_OK
        || ngx_vidgen_store_copy(pool, &params->error,
                                 &result->error) != NGX_OK
        || ngx_vidgen_store_copy(pool, &params->body, body) != NGX_OK
        || ngx_vidgen_text_number(pool, &params->ttl, ttl) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * Whether the status may be believed as it is.  A capability proves nothing
 * of the content; a completed job needs its result, here or by a poll; a
 * failure that only the map's "*" produced is to be confirmed where a poll can
 * do it.
 */
static ngx_uint_t
ngx_http_vidgen_webhook_verdict(ngx_vidgen_provider_t *provider,
    ngx_vidgen_result_t *result)
{
    if (provider->webhook->scheme.token) {
        return 0;
    }

    switch (result->status) {

    case NGX_VIDGEN_STATUS_NONE:
        return 0;

    case NGX_VIDGEN_STATUS_COMPLETED:
        return result->video_url.len != 0
               || (provider->webhook->reading.video_url.nelts == 0
                   && provider->poll == NULL);

    case NGX_VIDGEN_STATUS_FAILED:
        return !result->wildcard || provider->poll == NULL;

    default:
        return 1;
    }
}


static void
ngx_http_vidgen_webhook_applied(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_http_vidgen_webhook_t *webhook = call->data;

    ngx_int_t                      rc;
    ngx_vidgen_store_apply_row_t   row;

    ngx_http_vidgen_task_called(&webhook->task);

    if (ngx_vidgen_store_row(result, &row, sizeof(row)) == NGX_OK) {
        ngx_http_vidgen_webhook_remember(webhook, &row);

        if (ngx_vidgen_store_true(&row.changed)) {
            ngx_vidgen_store_notify(ngx_http_vidgen_store(), &row.job);
        }

        ngx_http_vidgen_webhook_report(webhook, &row);

        if (webhook->task.request) {
            rc = ngx_http_vidgen_webhook_answer(webhook->task.request, &row);
            ngx_http_vidgen_task_answer(&webhook->task, rc);
        }

    } else {
        ngx_vidgen_seen_release(webhook->zone, webhook->digest,
                                &webhook->claim);

        if (result->outcome == NGX_VIDGEN_PG_REJECTED) {
            ngx_log_error(NGX_LOG_ERR, webhook->task.log, 0,
                          "vidgen: webhook of provider \"%V\" refused by the"
                          " database (%s): %V", &webhook->provider->name,
                          result->sqlstate, &result->message);
        }

        if (webhook->task.request) {
            rc = ngx_http_vidgen_webhook_refuse(webhook->task.request,
                                            NGX_HTTP_VIDGEN_UNAVAILABLE, NULL);
            ngx_http_vidgen_task_answer(&webhook->task, rc);
        }
    }

    ngx_http_vidgen_task_destroy(&webhook->task);
}


/* what has an answer for ever is answered by the zone from now on */
static void
ngx_http_vidgen_webhook_remember(ngx_http_vidgen_webhook_t *webhook,
    ngx_vidgen_store_apply_row_t *row)
{
    ngx_vidgen_seen_value_t  value;

    ngx_memzero(&value, sizeof(value));

    if (!ngx_vidgen_store_true(&row->final)
        || ngx_vidgen_uuid_parse(&row->job, value.job) != NGX_OK)
    {
        ngx_vidgen_seen_release(webhook->zone, webhook->digest,
                                &webhook->claim);
        return;
    }

    value.http_status = NGX_HTTP_OK;
    value.job_status = ngx_vidgen_status_find(&row->status);

    ngx_vidgen_seen_done(webhook->zone, webhook->digest, &value,
                         &webhook->claim);
}


static void
ngx_http_vidgen_webhook_report(ngx_http_vidgen_webhook_t *webhook,
    ngx_vidgen_store_apply_row_t *row)
{
    ngx_http_vidgen_webhook_outcome_t  *outcome;

    for (outcome = ngx_http_vidgen_webhook_outcomes;
         outcome->outcome.len;
         outcome++)
    {
        if (ngx_vidgen_text_same(&outcome->outcome, &row->outcome)) {
            break;
        }
    }

    ngx_vidgen_metric_add(webhook->zone, outcome->metric, 1);

    if (ngx_vidgen_store_true(&row->differs)) {
        ngx_vidgen_metric_add(webhook->zone, NGX_VIDGEN_REPLAY_DIFFERS, 1);
    }

    if (outcome->log_level == NGX_LOG_ERR) {
        ngx_vidgen_metric_add(webhook->zone, NGX_VIDGEN_LATE_RESULTS, 1);
    }

    if (outcome->log_level) {
        ngx_log_error(outcome->log_level, webhook->task.log, 0,
                      "vidgen: webhook of provider \"%V\" %V: status \"%V\","
                      " provider job \"%V\", job \"%V\"",
                      &webhook->provider->name, &row->outcome,
                      &webhook->params.status,
                      &webhook->params.provider_job_id, &row->job);
    }

    ngx_vidgen_store_refund_error(webhook->zone, webhook->task.log, &row->job,
                                  &row->refund_error);
}
