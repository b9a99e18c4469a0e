#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_answer.h"
#include "http/ngx_http_vidgen_closer.h"
#include "http/ngx_http_vidgen_replay.h"


#define NGX_HTTP_VIDGEN_CLOSER_PAUSE      1000     /* ms, doubled each time */
#define NGX_HTTP_VIDGEN_CLOSER_PAUSE_MAX  10000
#define NGX_HTTP_VIDGEN_CLOSER_EXIT       60000    /* ms that an exit waits */


static void ngx_http_vidgen_closer_start(ngx_http_vidgen_operation_t *op);
static void ngx_http_vidgen_closer_called(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);
static void ngx_http_vidgen_closer_unanswered(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result);
static ngx_uint_t ngx_http_vidgen_closer_hopeless(
    ngx_http_vidgen_operation_t *op, ngx_vidgen_pg_result_t *result);
static void ngx_http_vidgen_closer_timer(ngx_event_t *ev);
static void ngx_http_vidgen_closer_give_up(ngx_http_vidgen_operation_t *op);
static void ngx_http_vidgen_closer_recorded(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result);
static void ngx_http_vidgen_closer_abandoned(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result);
static ngx_int_t ngx_http_vidgen_closer_kept(ngx_http_vidgen_operation_t *op,
    ngx_str_t *kept);
static ngx_int_t ngx_http_vidgen_closer_number(ngx_pool_t *pool,
    ngx_str_t *text, ngx_uint_t n);


static ngx_queue_t  ngx_http_vidgen_closer_queue = {
    &ngx_http_vidgen_closer_queue, &ngx_http_vidgen_closer_queue
};


void
ngx_http_vidgen_closer_call(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_statement_e statement, ngx_http_vidgen_closed_pt closed)
{
    op->closing = statement;
    op->closed = closed;
    op->pause = NGX_HTTP_VIDGEN_CLOSER_PAUSE;

    ngx_queue_insert_tail(&ngx_http_vidgen_closer_queue, &op->link);

    ngx_http_vidgen_closer_start(op);
}


static void
ngx_http_vidgen_closer_start(ngx_http_vidgen_operation_t *op)
{
    op->task.call.reserved = 1;

    if (ngx_http_vidgen_task_call(&op->task, op->closing, &op->params,
                                  ngx_http_vidgen_closer_called)
        != NGX_OK)
    {
        ngx_http_vidgen_closer_unanswered(op, NULL);
    }
}


static void
ngx_http_vidgen_closer_called(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_http_vidgen_operation_t *op = call->data;

    ngx_connection_t  *c;

    ngx_http_vidgen_task_called(&op->task);

    c = op->task.request ? op->task.request->connection : NULL;

    if (result->outcome == NGX_VIDGEN_PG_DONE && result->rows) {
        ngx_queue_remove(&op->link);
        ngx_queue_init(&op->link);
        op->closing = NGX_VIDGEN_STORE_STATEMENTS;
        op->closed(op, result);

    } else {
        ngx_http_vidgen_closer_unanswered(op, result);
    }

    if (c) {
        ngx_http_run_posted_requests(c);
    }
}


/* the client is told what is known, and the call is made again */
static void
ngx_http_vidgen_closer_unanswered(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result)
{
    if (op->closing == NGX_VIDGEN_STORE_SUBMITTED) {
        ngx_http_vidgen_answer_processing(op, &op->candidate->provider->name);

    } else {
        ngx_http_vidgen_answer_error(op, NGX_HTTP_VIDGEN_OUTCOME_UNKNOWN, NULL,
                                     1);
    }

    if (ngx_http_vidgen_closer_hopeless(op, result)) {
        ngx_http_vidgen_closer_give_up(op);
        return;
    }

    op->timer.handler = ngx_http_vidgen_closer_timer;
    op->timer.data = op;
    op->timer.log = op->task.log;

    ngx_add_timer(&op->timer, op->pause);

    op->pause = ngx_min(2 * op->pause, NGX_HTTP_VIDGEN_CLOSER_PAUSE_MAX);
}


/*
 * Asking again does not help where what the call says is refused; whatever
 * else the database answers may be mended.  But a worker that shuts down has
 * to end at last.
 */
static ngx_uint_t
ngx_http_vidgen_closer_hopeless(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result)
{
    if (result && result->outcome == NGX_VIDGEN_PG_REJECTED) {
        ngx_log_error(NGX_LOG_CRIT, op->task.log, 0,
                      "vidgen: job \"%V\": the database refused a call (%s):"
                      " %V", &op->job, result->sqlstate, &result->message);

        if (ngx_strncmp(result->sqlstate, "22", 2) == 0
            || ngx_strncmp(result->sqlstate, "23", 2) == 0
            || ngx_strncmp(result->sqlstate, "P0001", 5) == 0)
        {
            return 1;
        }
    }

    if (!ngx_exiting) {
        return 0;
    }

    if (op->give_up == 0) {
        op->give_up = ngx_current_msec + NGX_HTTP_VIDGEN_CLOSER_EXIT;
    }

    return (ngx_msec_int_t) (op->give_up - ngx_current_msec) <= 0;
}


static void
ngx_http_vidgen_closer_timer(ngx_event_t *ev)
{
    ngx_http_vidgen_closer_start(ev->data);
}


static void
ngx_http_vidgen_closer_give_up(ngx_http_vidgen_operation_t *op)
{
    if (op->closing == NGX_VIDGEN_STORE_SUBMITTED) {
        ngx_log_error(NGX_LOG_CRIT, op->task.log, 0,
                      "vidgen: an acceptance could not be recorded: job"
                      " \"%V\", provider \"%V\", provider job \"%V\"",
                      &op->job, &op->candidate->provider->name,
                      &op->verdict.result.job_id);
    }

    ngx_http_vidgen_operation_destroy(op);
}


void
ngx_http_vidgen_closer_exit(void)
{
    ngx_queue_t                  *q;
    ngx_http_vidgen_operation_t  *op;

    for (q = ngx_queue_head(&ngx_http_vidgen_closer_queue);
         q != ngx_queue_sentinel(&ngx_http_vidgen_closer_queue);
         q = ngx_queue_next(q))
    {
        op = ngx_queue_data(q, ngx_http_vidgen_operation_t, link);

        if (op->closing == NGX_VIDGEN_STORE_SUBMITTED) {
            ngx_log_error(NGX_LOG_CRIT, op->task.log, 0,
                          "vidgen: the worker ends before an acceptance is"
                          " known to be recorded: job \"%V\", provider"
                          " \"%V\", provider job \"%V\"",
                          &op->job, &op->candidate->provider->name,
                          &op->verdict.result.job_id);
        }
    }
}


void
ngx_http_vidgen_closer_submitted(ngx_http_vidgen_operation_t *op)
{
    ngx_int_t                      rc;
    ngx_uint_t                     ended;
    ngx_pool_t                    *pool;
    ngx_vidgen_submit_t           *submit;
    ngx_vidgen_provider_t         *provider;
    ngx_vidgen_store_submitted_t  *params;

    pool = op->task.pool;
    ended = op->verdict.result.status > NGX_VIDGEN_STATUS_PROCESSING;
    provider = op->candidate->provider;
    submit = provider->submit;
    params = &op->params.submitted;

    ngx_memzero(params, sizeof(ngx_vidgen_store_submitted_t));

    params->job = op->job;
    params->attempt = op->attempt_id;
    params->provider_job_id = op->verdict.result.job_id;
    params->progress = ngx_vidgen_status_names[
                   op->verdict.result.status > NGX_VIDGEN_STATUS_QUEUED
                   ? NGX_VIDGEN_STATUS_PROCESSING : NGX_VIDGEN_STATUS_QUEUED];

    rc = ngx_http_vidgen_closer_number(pool, &params->http_status,
                                       op->attempt.response.http_status);

    if (rc == NGX_OK) {
        rc = ngx_http_vidgen_closer_number(pool, &params->estimated_time,
                                           submit->estimated_time);
    }

    /* one that says at once that it has ended is asked at once */

    if (rc == NGX_OK && provider->poll && (provider->webhook == NULL || ended))
    {
        rc = ngx_http_vidgen_closer_number(pool, &params->due,
                                           ended ? 1 : op->mcf->monitor.poll);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_vidgen_closer_kept(op, &params->kept);
    }

    if (rc != NGX_OK) {
        /* recorded without what has no memory */
        ngx_str_null(&params->kept);
    }

    ngx_http_vidgen_closer_call(op, NGX_VIDGEN_STORE_SUBMITTED,
                                ngx_http_vidgen_closer_recorded);
}


/* what the definition keeps of the answer, as a JSON object of texts */
static ngx_int_t
ngx_http_vidgen_closer_kept(ngx_http_vidgen_operation_t *op, ngx_str_t *kept)
{
    size_t              size;
    u_char             *p;
    ngx_uint_t          i;
    ngx_array_t         pairs;
    ngx_vidgen_pair_t  *pair;

    ngx_str_null(kept);

    if (ngx_array_init(&pairs, op->task.pool, 2, sizeof(ngx_vidgen_pair_t))
        != NGX_OK
        || ngx_vidgen_provider_keep(&op->candidate->provider->submit->keep,
                                    op->verdict.json, op->task.pool, &pairs)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (pairs.nelts == 0) {
        return NGX_OK;
    }

    pair = pairs.elts;
    size = sizeof("{}");

    for (i = 0; i < pairs.nelts; i++) {
        size += sizeof(",:")
                + (size_t) ngx_vidgen_json_escape(NULL, &pair[i].name)
                + (size_t) ngx_vidgen_json_escape(NULL, &pair[i].value);
    }

    p = ngx_pnalloc(op->task.pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    kept->data = p;

    for (i = 0; i < pairs.nelts; i++) {
        *p++ = i ? ',' : '{';
        p = ngx_vidgen_json_escape(p, &pair[i].name);
        *p++ = ':';
        p = ngx_vidgen_json_escape(p, &pair[i].value);
    }

    *p++ = '}';
    kept->len = p - kept->data;

    return NGX_OK;
}


static void
ngx_http_vidgen_closer_recorded(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_store_submitted_row_t  row;

    (void) ngx_vidgen_store_row(result, &row, sizeof(row));

    if (ngx_vidgen_store_is(&row.outcome, "absent")) {
        ngx_log_error(NGX_LOG_CRIT, op->task.log, 0,
                      "vidgen: an acceptance has no attempt in the database:"
                      " job \"%V\", provider \"%V\", provider job \"%V\"",
                      &op->job, &op->candidate->provider->name,
                      &op->verdict.result.job_id);
        ngx_http_vidgen_answer_processing(op, &op->candidate->provider->name);

    } else {
        ngx_vidgen_store_refund_error(op->mcf->zone, op->task.log, &op->job,
                                      &row.refund_error);
        ngx_http_vidgen_replay_remember(op, &row);
        ngx_http_vidgen_answer_submitted(op, &row);
    }

    ngx_http_vidgen_operation_destroy(op);
}


void
ngx_http_vidgen_closer_abandon(ngx_http_vidgen_operation_t *op,
    ngx_http_vidgen_error_e error)
{
    ngx_pool_t                  *pool;
    ngx_vidgen_store_abandon_t  *params;

    pool = op->task.pool;
    params = &op->params.abandon;
    op->failure = error;

    ngx_memzero(params, sizeof(ngx_vidgen_store_abandon_t));

    params->job = op->job;
    params->attempt = op->attempt_id;
    params->state = ngx_vidgen_attempt_state_names[op->verdict.state];
    params->answer_code = *ngx_http_vidgen_error_code(error);

    /* short of memory they stay NULL, and the job is closed all the same */

    (void) ngx_http_vidgen_closer_number(pool, &params->http_status,
                                         op->attempt.response.http_status);
    (void) ngx_http_vidgen_closer_number(pool, &params->answer_status,
                                         ngx_http_vidgen_error_status(error));
    (void) ngx_vidgen_store_copy(pool, &params->reason, &op->verdict.reason);
    (void) ngx_vidgen_store_copy(pool, &params->error, &op->verdict.message);

    if (error == NGX_HTTP_VIDGEN_PROVIDER_REFUSED) {
        params->answer_error = params->error;
    }

    ngx_http_vidgen_closer_call(op, NGX_VIDGEN_STORE_ABANDON,
                                ngx_http_vidgen_closer_abandoned);
}


static void
ngx_http_vidgen_closer_abandoned(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result)
{
    ngx_str_t                       *detail;
    ngx_vidgen_store_abandon_row_t   row;

    (void) ngx_vidgen_store_row(result, &row, sizeof(row));

    if (op->task.request) {
        ngx_http_vidgen_ctx_keep(op->task.request, &op->task.ctx->job_status,
                                 &row.status);
    }

    if (ngx_vidgen_store_is(&row.http_status, "200")) {
        ngx_http_vidgen_answer_accepted(op, &row);

    } else if (ngx_vidgen_store_is(&row.outcome, "open")) {
        ngx_http_vidgen_answer_processing(op, &row.provider);

    } else if (ngx_vidgen_store_is(&row.status, "failed")
               && !ngx_vidgen_store_true(&row.refunded))
    {
        /* that the credits are back is only said when it is known */

        ngx_vidgen_store_refund_error(op->mcf->zone, op->task.log, &op->job,
                                      &row.refund_error);
        ngx_http_vidgen_answer_error(op, NGX_HTTP_VIDGEN_OUTCOME_UNKNOWN, NULL,
                                     1);

    } else {
        detail = op->failure == NGX_HTTP_VIDGEN_PROVIDER_REFUSED
                 ? &op->verdict.message : NULL;

        ngx_http_vidgen_answer_error(op, op->failure, detail, op->begun);
    }

    ngx_http_vidgen_operation_destroy(op);
}


/* 0: SQL's NULL */
static ngx_int_t
ngx_http_vidgen_closer_number(ngx_pool_t *pool, ngx_str_t *text, ngx_uint_t n)
{
    ngx_str_null(text);

    return n ? ngx_vidgen_text_number(pool, text, n) : NGX_OK;
}
