#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_answer.h"
#include "http/ngx_http_vidgen_attempt.h"
#include "http/ngx_http_vidgen_closer.h"
#include "http/ngx_http_vidgen_live.h"
#include "http/ngx_http_vidgen_next.h"
#include "http/ngx_http_vidgen_operation.h"
#include "http/ngx_http_vidgen_process.h"
#include "http/ngx_http_vidgen_scope.h"
#include "shm/ngx_vidgen_metric.h"


/* added to the bound of an attempt: until then its worker counts as alive */
#define NGX_HTTP_VIDGEN_LEASE_MARGIN  60000


static void ngx_http_vidgen_operation_begun(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);
static void ngx_http_vidgen_operation_not_begun(
    ngx_http_vidgen_operation_t *op, ngx_vidgen_pg_result_t *result);
static ngx_int_t ngx_http_vidgen_operation_route(
    ngx_http_vidgen_operation_t *op, ngx_str_t *names);
static void ngx_http_vidgen_operation_left(ngx_http_vidgen_task_t *task);
static void ngx_http_vidgen_operation_still_unknown(
    ngx_http_vidgen_operation_t *op);
static void ngx_http_vidgen_operation_log(ngx_http_vidgen_operation_t *op);


static ngx_vidgen_metric_e  ngx_http_vidgen_operation_metrics[] = {
    NGX_VIDGEN_ATTEMPT_ACCEPTED,
    NGX_VIDGEN_ATTEMPT_UNSENT,
    NGX_VIDGEN_ATTEMPT_REFUSED,
    NGX_VIDGEN_ATTEMPT_UNKNOWN
};


ngx_int_t
ngx_http_vidgen_operation_create(ngx_http_request_t *r,
    ngx_http_vidgen_operation_t **operation)
{
    ngx_vidgen_store_t           *store;
    ngx_http_vidgen_ctx_t        *ctx;
    ngx_http_vidgen_operation_t  *op;

    store = ngx_http_vidgen_store();
    ctx = ngx_http_vidgen_ctx(r, 0);

    if (store == NULL
        || ngx_vidgen_pg_reserve(ngx_vidgen_store_pg(store)) != NGX_OK)
    {
        return NGX_BUSY;
    }

    op = ngx_http_vidgen_task_create(r, ctx,
                                     sizeof(ngx_http_vidgen_operation_t));
    if (op == NULL) {
        ngx_vidgen_pg_unreserve(ngx_vidgen_store_pg(store));
        return NGX_ERROR;
    }

    op->reserved = 1;
    op->throttled = 1;
    op->unfit = 1;
    op->mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);
    op->lcf = ngx_http_get_module_loc_conf(r, ngx_http_vidgen_module);
    op->deadline = ngx_current_msec + op->lcf->next_provider_timeout;
    op->source.variable = ngx_http_vidgen_ctx_variable;
    op->source.data = r;

    op->closing = NGX_VIDGEN_STORE_STATEMENTS;

    ngx_queue_init(&op->link);

    op->job.data = op->job_text;
    op->job.len = NGX_VIDGEN_UUID_LEN;
    op->attempt_id.data = op->attempt_text;
    op->attempt_id.len = NGX_VIDGEN_UUID_LEN;

    op->variables = ngx_http_vidgen_scope_given(r, op->task.pool);

    if (op->variables == NULL
        || ngx_vidgen_uuid7(op->job_text) != NGX_OK
        || ngx_vidgen_uuid7(op->attempt_text) != NGX_OK)
    {
        ngx_http_vidgen_operation_destroy(op);
        return NGX_ERROR;
    }

    ctx->source = &op->source;
    ctx->operation = op;
    *operation = op;

    return NGX_OK;
}


void
ngx_http_vidgen_operation_destroy(ngx_http_vidgen_operation_t *op)
{
    ngx_vidgen_store_t  *store;

    store = ngx_http_vidgen_store();

    if (op->reserved && store) {
        ngx_vidgen_pg_unreserve(ngx_vidgen_store_pg(store));
    }

    if (op->timer.timer_set) {
        ngx_del_timer(&op->timer);
    }

    ngx_queue_remove(&op->link);
    ngx_http_vidgen_task_destroy(&op->task);
}


ngx_int_t
ngx_http_vidgen_operation_source(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_provider_t *provider)
{
    u_char            *p;
    ngx_str_t         *values, *escaped;
    ngx_vidgen_key_t **key;

    values = op->source.values;

    ngx_vidgen_provider_source(provider, &op->source);

    values[NGX_VIDGEN_VALUE_PROMPT] = op->input.prompt;
    values[NGX_VIDGEN_VALUE_MODEL] = op->input.model;
    values[NGX_VIDGEN_VALUE_DURATION] = op->input.duration;
    values[NGX_VIDGEN_VALUE_ASPECT_RATIO] = op->input.aspect_ratio;
    values[NGX_VIDGEN_VALUE_USER] = op->input.user;
    values[NGX_VIDGEN_VALUE_ATTEMPT_ID] = op->attempt_id;

    if (!provider->submit->webhook_url) {
        ngx_str_null(&values[NGX_VIDGEN_VALUE_WEBHOOK_URL]);
        ngx_str_null(&values[NGX_VIDGEN_VALUE_WEBHOOK_URL_ESCAPED]);
        return NGX_OK;
    }

    key = op->mcf->secrets.nelts ? op->mcf->secrets.elts : NULL;

    if (ngx_vidgen_provider_webhook_url(&op->lcf->webhook_url, provider,
                                        &op->attempt_id, key ? *key : NULL,
                                        op->task.pool,
                                        &values[NGX_VIDGEN_VALUE_WEBHOOK_URL])
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    escaped = &values[NGX_VIDGEN_VALUE_WEBHOOK_URL_ESCAPED];

    p = ngx_pnalloc(op->task.pool,
                    3 * values[NGX_VIDGEN_VALUE_WEBHOOK_URL].len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    escaped->data = p;
    escaped->len = ngx_vidgen_text_escape(p,
                                 &values[NGX_VIDGEN_VALUE_WEBHOOK_URL], 1) - p;

    return NGX_OK;
}


ngx_int_t
ngx_http_vidgen_operation_start(ngx_http_vidgen_operation_t *op,
    ngx_str_t *candidates)
{
    ngx_pool_t                *pool;
    ngx_vidgen_store_begin_t  *begin;

    pool = op->task.pool;
    begin = &op->params.begin;

    begin->job = op->job;
    begin->attempt = op->attempt_id;
    begin->user = op->input.user;
    begin->model = op->input.model;
    begin->prompt = op->input.prompt;
    begin->key = op->input.key;
    begin->fingerprint = op->input.fingerprint;
    begin->candidates = *candidates;

    if (ngx_vidgen_store_copy(pool, &begin->preferred, &op->input.provider)
        != NGX_OK
        || ngx_vidgen_text_number(pool, &begin->ttl,
                                  op->mcf->idempotency_ttl) != NGX_OK
        || ngx_http_vidgen_operation_lease(op, &begin->lease) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_vidgen_task_call(&op->task, NGX_VIDGEN_STORE_BEGIN, begin,
                                  ngx_http_vidgen_operation_begun)
        != NGX_OK)
    {
        return NGX_BUSY;
    }

    op->task.left = ngx_http_vidgen_operation_left;

    return NGX_OK;
}


ngx_msec_t
ngx_http_vidgen_operation_time(ngx_http_vidgen_operation_t *op,
    ngx_msec_t pause)
{
    ngx_msec_t      bound;
    ngx_msec_int_t  left;

    bound = op->lcf->attempt_timeout;

    if (op->lcf->next_provider_timeout == 0) {
        return bound;
    }

    left = (ngx_msec_int_t) (op->deadline - ngx_current_msec - pause);

    return left > 0 ? ngx_min(bound, (ngx_msec_t) left) : 0;
}


ngx_int_t
ngx_http_vidgen_operation_lease(ngx_http_vidgen_operation_t *op,
    ngx_str_t *lease)
{
    return ngx_vidgen_text_number(op->task.pool, lease,
                                  op->lcf->attempt_timeout
                                  + NGX_HTTP_VIDGEN_LEASE_MARGIN);
}


static void
ngx_http_vidgen_operation_begun(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_http_vidgen_operation_t *op = call->data;

    ngx_connection_t              *c;
    ngx_vidgen_store_begin_row_t   row;

    ngx_http_vidgen_task_called(&op->task);

    if (ngx_vidgen_store_row(result, &row, sizeof(row)) != NGX_OK) {
        ngx_http_vidgen_operation_not_begun(op, result);
        return;
    }

    if (!ngx_vidgen_store_is(&row.outcome, "go")) {
        ngx_http_vidgen_answer_begin(op, &row);
        ngx_http_vidgen_operation_destroy(op);
        return;
    }

    op->begun = 1;
    c = op->task.request ? op->task.request->connection : NULL;

    if (ngx_http_vidgen_operation_route(op, &row.providers) != NGX_OK) {
        ngx_http_vidgen_closer_abandon(op, NGX_HTTP_VIDGEN_UNAVAILABLE);

    } else {
        ngx_http_vidgen_operation_attempt(op);
    }

    if (c) {
        ngx_http_run_posted_requests(c);
    }
}


/*
 * Nothing is sent to a provider.  If the outcome is unknown, the hold may be
 * there: abandon until the database says.
 */
static void
ngx_http_vidgen_operation_not_begun(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result)
{
    if (result->outcome == NGX_VIDGEN_PG_REJECTED) {
        ngx_log_error(NGX_LOG_ERR, op->task.log, 0,
                      "vidgen: a generation was refused by the database (%s):"
                      " %V", result->sqlstate, &result->message);
    }

    ngx_http_vidgen_answer_error(op, NGX_HTTP_VIDGEN_UNAVAILABLE, NULL, 0);

    if (result->outcome != NGX_VIDGEN_PG_UNKNOWN) {
        ngx_http_vidgen_operation_destroy(op);
        return;
    }

    op->verdict.state = NGX_VIDGEN_ATTEMPT_STATE_UNSENT;
    ngx_http_vidgen_closer_abandon(op, NGX_HTTP_VIDGEN_UNAVAILABLE);
}


/* the final order, as begin returned it */
static ngx_int_t
ngx_http_vidgen_operation_route(ngx_http_vidgen_operation_t *op,
    ngx_str_t *names)
{
    u_char                       *p, *last;
    ngx_str_t                     name;
    ngx_vidgen_provider_t        *provider;
    ngx_http_vidgen_candidate_t  *candidate;

    op->verdict.state = NGX_VIDGEN_ATTEMPT_STATE_UNSENT;

    if (ngx_array_init(&op->candidates, op->task.pool, 4,
                       sizeof(ngx_http_vidgen_candidate_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    p = names->data;
    last = names->data + names->len;

    while (p < last) {
        name.data = p;

        while (p < last && *p != ',') {
            p++;
        }

        name.len = p++ - name.data;

        provider = ngx_vidgen_provider_find(&op->mcf->providers, &name);
        if (provider == NULL || provider->submit == NULL) {
            continue;
        }

        candidate = ngx_array_push(&op->candidates);
        if (candidate == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(candidate, sizeof(ngx_http_vidgen_candidate_t));
        candidate->provider = provider;
    }

    if (op->candidates.nelts == 0) {
        return NGX_ERROR;
    }

    op->candidate = op->candidates.elts;
    op->round = 1;

    return NGX_OK;
}


void
ngx_http_vidgen_operation_attempt(ngx_http_vidgen_operation_t *op)
{
    ngx_int_t               rc;
    ngx_http_vidgen_ctx_t  *ctx;

    if (!op->resent) {
        ngx_memzero(&op->verdict, sizeof(ngx_vidgen_verdict_t));
        ngx_memzero(&op->attempt, sizeof(ngx_http_vidgen_attempt_t));
        op->verdict.state = NGX_VIDGEN_ATTEMPT_STATE_UNSENT;
    }

    op->candidate->asked++;
    ctx = op->task.ctx;

    if (ngx_http_vidgen_task_gone(&op->task)) {
        ngx_http_vidgen_closer_abandon(op, NGX_HTTP_VIDGEN_PROVIDER_FAILED);
        return;
    }

    ctx->attempts += !op->resent;
    ctx->provider = op->candidate->provider->name;

    rc = ngx_http_vidgen_attempt_start(op);

    if (rc == NGX_OK) {
        op->unfit = 0;
        return;
    }

    if (rc == NGX_DECLINED && !op->resent) {
        /* a value is not of the type that this definition wants */
        ngx_str_set(&op->verdict.reason, "refused");
        op->verdict.next = NGX_VIDGEN_NEXT_ERROR|NGX_VIDGEN_NEXT_UNSENT;
        op->candidate->closed = 1;

        ngx_http_vidgen_operation_log(op);
        ngx_http_vidgen_next_decide(op);
        return;
    }

    ngx_http_vidgen_closer_abandon(op, NGX_HTTP_VIDGEN_UNAVAILABLE);
}


void
ngx_http_vidgen_operation_attempted(ngx_http_vidgen_operation_t *op)
{
    ngx_int_t             rc;
    ngx_vidgen_submit_t  *submit;

    submit = op->candidate->provider->submit;

    rc = ngx_vidgen_route_judge(submit, &op->attempt.response, op->task.pool,
                                &op->verdict);
    if (rc != NGX_OK) {
        /* no memory to read the answer: the provider may have it */
        op->verdict.state = op->attempt.response.sent
                            ? NGX_VIDGEN_ATTEMPT_STATE_UNKNOWN
                            : NGX_VIDGEN_ATTEMPT_STATE_UNSENT;
        op->verdict.next = 0;
    }

    if (op->resent && op->verdict.state != NGX_VIDGEN_ATTEMPT_STATE_ACCEPTED) {
        ngx_http_vidgen_operation_still_unknown(op);
    }

    ngx_vidgen_metric_add(op->mcf->zone,
                  ngx_http_vidgen_operation_metrics[op->verdict.state], 1);

    ngx_http_vidgen_live_note(op);

    if (op->verdict.state == NGX_VIDGEN_ATTEMPT_STATE_ACCEPTED) {
        ngx_http_vidgen_closer_submitted(op);
        return;
    }

    ngx_http_vidgen_operation_log(op);
    ngx_http_vidgen_next_decide(op);
}


/* whatever is said of the second request says nothing of the first */
static void
ngx_http_vidgen_operation_still_unknown(ngx_http_vidgen_operation_t *op)
{
    op->verdict.state = NGX_VIDGEN_ATTEMPT_STATE_UNKNOWN;
    op->verdict.next &= ~NGX_VIDGEN_NEXT_UNSENT;
    op->verdict.content = 0;
}


static void
ngx_http_vidgen_operation_log(ngx_http_vidgen_operation_t *op)
{
    ngx_log_error(NGX_LOG_WARN, op->task.log, 0,
                  "vidgen: job \"%V\": provider \"%V\" did not accept: %V (%V)",
                  &op->job, &op->candidate->provider->name,
                  &op->verdict.reason,
                  &ngx_vidgen_attempt_state_names[op->verdict.state]);
}


/* the client has left: nothing more is asked of a provider, only closed */
static void
ngx_http_vidgen_operation_left(ngx_http_vidgen_task_t *task)
{
    ngx_uint_t                    pausing;
    ngx_http_vidgen_operation_t  *op;

    op = (ngx_http_vidgen_operation_t *) task;

    op->source.data = NULL;

    if (ngx_http_vidgen_attempt_cut(op)) {
        ngx_http_vidgen_task_detach(task);
        ngx_http_vidgen_operation_attempted(op);
        return;
    }

    pausing = op->timer.timer_set && op->closing == NGX_VIDGEN_STORE_STATEMENTS;

    ngx_http_vidgen_task_detach(task);

    if (pausing) {
        ngx_del_timer(&op->timer);
        ngx_http_vidgen_closer_abandon(op, NGX_HTTP_VIDGEN_PROVIDER_FAILED);
    }
}
