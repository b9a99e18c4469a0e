#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_attempt.h"
#include "http/ngx_http_vidgen_closer.h"
#include "http/ngx_http_vidgen_live.h"
#include "http/ngx_http_vidgen_next.h"
#include "shm/ngx_vidgen_health.h"


#define NGX_HTTP_VIDGEN_COOLDOWN  10     /* seconds, where a 429 names none */


static void ngx_http_vidgen_next_note(ngx_http_vidgen_operation_t *op);
static void ngx_http_vidgen_next_go_on(ngx_http_vidgen_operation_t *op);
static void ngx_http_vidgen_next_choose(ngx_http_vidgen_operation_t *op,
    ngx_msec_t *pause);
static ngx_http_vidgen_error_e ngx_http_vidgen_next_failure(
    ngx_http_vidgen_operation_t *op);
static ngx_uint_t ngx_http_vidgen_next_may_ask(
    ngx_http_vidgen_operation_t *op, ngx_msec_t pause);
static ngx_uint_t ngx_http_vidgen_next_is_open(
    ngx_http_vidgen_operation_t *op, ngx_http_vidgen_candidate_t *candidate);
static ngx_uint_t ngx_http_vidgen_next_may_resend(
    ngx_http_vidgen_operation_t *op);
static ngx_http_vidgen_candidate_t *ngx_http_vidgen_next_in_round(
    ngx_http_vidgen_operation_t *op);
static ngx_http_vidgen_candidate_t *ngx_http_vidgen_next_in_later_round(
    ngx_http_vidgen_operation_t *op, ngx_msec_t *pause);
static ngx_msec_t ngx_http_vidgen_next_backoff(
    ngx_http_vidgen_operation_t *op);
static void ngx_http_vidgen_next_timer(ngx_event_t *ev);
static void ngx_http_vidgen_next_after_pause(
    ngx_http_vidgen_operation_t *op);
static void ngx_http_vidgen_next_move(ngx_http_vidgen_operation_t *op);
static void ngx_http_vidgen_next_moved(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result);


void
ngx_http_vidgen_next_decide(ngx_http_vidgen_operation_t *op)
{
    ngx_http_vidgen_next_note(op);
    ngx_http_vidgen_next_go_on(op);
}


static void
ngx_http_vidgen_next_go_on(ngx_http_vidgen_operation_t *op)
{
    ngx_msec_t  pause;

    op->next = NULL;
    pause = 0;

    if (!ngx_http_vidgen_task_gone(&op->task)
        && (op->verdict.next & op->lcf->next_provider))
    {
        ngx_http_vidgen_next_choose(op, &pause);
    }

    if (op->next == NULL) {
        ngx_http_vidgen_closer_abandon(op, ngx_http_vidgen_next_failure(op));
        return;
    }

    if (pause == 0) {
        ngx_http_vidgen_next_move(op);
        return;
    }

    /* the attempt stays open, so that nothing settles during the pause */

    op->timer.handler = ngx_http_vidgen_next_timer;
    op->timer.data = op;
    op->timer.log = op->task.log;

    ngx_add_timer(&op->timer, pause);
}


/*
 * Sets op->next, which stays NULL if there is none: op->candidate itself while
 * its attempt is unknown means that the same attempt is sent again.
 */
static void
ngx_http_vidgen_next_choose(ngx_http_vidgen_operation_t *op,
    ngx_msec_t *pause)
{
    ngx_uint_t  resend;

    resend = ngx_http_vidgen_next_may_resend(op);

    /* once before another provider is asked, which would leave it unknown */

    if (!resend || op->resent) {
        op->next = ngx_http_vidgen_next_in_round(op);
    }

    if (op->next == NULL && resend) {
        *pause = ngx_http_vidgen_next_backoff(op);

        if (ngx_http_vidgen_next_may_ask(op, *pause)) {
            op->next = op->candidate;
            return;
        }

        *pause = 0;
        op->next = ngx_http_vidgen_next_in_round(op);
    }

    if (op->next == NULL) {
        op->next = ngx_http_vidgen_next_in_later_round(op, pause);
    }
}


/* what this attempt means for its candidate, here and for all workers */
static void
ngx_http_vidgen_next_note(ngx_http_vidgen_operation_t *op)
{
    time_t                        pause;
    ngx_http_vidgen_candidate_t  *candidate;

    candidate = op->candidate;
    pause = op->attempt.retry_after;

    if (!(op->verdict.next & NGX_VIDGEN_NEXT_HTTP_429)) {
        op->throttled = 0;

    } else {
        pause = pause > 0 ? pause : NGX_HTTP_VIDGEN_COOLDOWN;

        ngx_vidgen_health_cooldown(op->mcf->zone, &candidate->provider->name,
                                   ngx_time() + pause);
    }

    if (pause > 0) {
        candidate->retry_at = ngx_time() + pause;
    }

    /* never the same provider again while it may have this job */

    if (op->verdict.state == NGX_VIDGEN_ATTEMPT_STATE_UNKNOWN
        || !(op->verdict.next & op->lcf->next_provider))
    {
        candidate->closed = 1;
    }
}


static ngx_http_vidgen_error_e
ngx_http_vidgen_next_failure(ngx_http_vidgen_operation_t *op)
{
    if (op->verdict.content) {
        return NGX_HTTP_VIDGEN_PROVIDER_REFUSED;
    }

    if (op->unfit) {
        return NGX_HTTP_VIDGEN_BAD_FIELD;
    }

    return op->throttled ? NGX_HTTP_VIDGEN_NO_PROVIDER
                         : NGX_HTTP_VIDGEN_PROVIDER_FAILED;
}


/* whether the bounds of the whole allow one more request after pause */
static ngx_uint_t
ngx_http_vidgen_next_may_ask(ngx_http_vidgen_operation_t *op, ngx_msec_t pause)
{
    ngx_uint_t                    i, asked;
    ngx_http_vidgen_candidate_t  *candidate;

    asked = 0;
    candidate = op->candidates.elts;

    for (i = 0; i < op->candidates.nelts; i++) {
        asked += candidate[i].asked;
    }

    if (op->lcf->next_provider_tries && asked >= op->lcf->next_provider_tries)
    {
        return 0;
    }

    return ngx_http_vidgen_operation_time(op, pause)
           > ngx_http_vidgen_attempt_least(op);
}


/* in this or a later round; what other workers were told counts too */
static ngx_uint_t
ngx_http_vidgen_next_is_open(ngx_http_vidgen_operation_t *op,
    ngx_http_vidgen_candidate_t *candidate)
{
    ngx_vidgen_health_t  health;

    if (candidate->closed
        || candidate->asked + candidate->full >= op->lcf->retry_attempts)
    {
        return 0;
    }

    ngx_vidgen_health_get(op->mcf->zone, &candidate->provider->name, &health);

    candidate->retry_at = ngx_max(candidate->retry_at, health.cooldown);

    return 1;
}


/* the key of an idempotent one is its attempt: the same is sent again */
static ngx_uint_t
ngx_http_vidgen_next_may_resend(ngx_http_vidgen_operation_t *op)
{
    return op->candidate->provider->submit->idempotent
           && op->verdict.state == NGX_VIDGEN_ATTEMPT_STATE_UNKNOWN
           && op->candidate->asked < op->lcf->retry_attempts
           && op->candidate->retry_at <= ngx_time();
}


/* one that was not asked in this round and did not ask for a pause */
static ngx_http_vidgen_candidate_t *
ngx_http_vidgen_next_in_round(ngx_http_vidgen_operation_t *op)
{
    ngx_uint_t                    i;
    ngx_http_vidgen_candidate_t  *candidate;

    if (!ngx_http_vidgen_next_may_ask(op, 0)) {
        return NULL;
    }

    candidate = op->candidates.elts;

    for (i = 0; i < op->candidates.nelts; i++) {
        if (candidate[i].asked + candidate[i].full < op->round
            && ngx_http_vidgen_next_is_open(op, &candidate[i])
            && candidate[i].retry_at <= ngx_time()
            && ngx_http_vidgen_live_admit(op, &candidate[i]))
        {
            return &candidate[i];
        }
    }

    return NULL;
}


/* the one that may be asked first, if that is before the deadline */
static ngx_http_vidgen_candidate_t *
ngx_http_vidgen_next_in_later_round(ngx_http_vidgen_operation_t *op,
    ngx_msec_t *pause)
{
    ngx_uint_t                    i;
    ngx_msec_t                    backoff, wait;
    ngx_http_vidgen_candidate_t  *candidate, *next;

    next = NULL;
    backoff = ngx_http_vidgen_next_backoff(op);
    candidate = op->candidates.elts;

    for (i = 0; i < op->candidates.nelts; i++) {

        if (!ngx_http_vidgen_next_is_open(op, &candidate[i])
            || ngx_vidgen_health_admit(op->mcf->zone,
                                       &candidate[i].provider->name,
                                       &op->mcf->monitor.rule, 0) != NGX_OK)
        {
            continue;
        }

        wait = backoff;

        if (candidate[i].retry_at > ngx_time()) {
            wait = (candidate[i].retry_at - ngx_time()) * 1000;
        }

        if (next == NULL || wait < *pause) {
            next = &candidate[i];
            *pause = wait;
        }
    }

    if (next == NULL || !ngx_http_vidgen_next_may_ask(op, *pause)) {
        return NULL;
    }

    op->round++;

    return next;
}


/* exponential, with jitter: half of it is certain */
static ngx_msec_t
ngx_http_vidgen_next_backoff(ngx_http_vidgen_operation_t *op)
{
    ngx_uint_t  i;
    ngx_msec_t  backoff;

    backoff = op->lcf->retry_backoff;

    for (i = 1; i < op->round && backoff < op->lcf->retry_max; i++) {
        backoff *= 2;
    }

    backoff = ngx_min(backoff, op->lcf->retry_max);

    return backoff / 2 + ngx_random() % (backoff / 2 + 1) + 1;
}


static void
ngx_http_vidgen_next_timer(ngx_event_t *ev)
{
    ngx_http_vidgen_operation_t *op = ev->data;

    ngx_connection_t  *c;

    if (ngx_http_vidgen_task_gone(&op->task)) {
        ngx_http_vidgen_closer_abandon(op, ngx_http_vidgen_next_failure(op));
        return;
    }

    if (op->next != op->candidate
        || op->verdict.state != NGX_VIDGEN_ATTEMPT_STATE_UNKNOWN)
    {
        ngx_http_vidgen_next_after_pause(op);
        return;
    }

    c = op->task.request->connection;
    op->resent = 1;

    ngx_http_vidgen_operation_attempt(op);
    ngx_http_run_posted_requests(c);
}


/* unless other workers have learnt during the pause that it is no use */
static void
ngx_http_vidgen_next_after_pause(ngx_http_vidgen_operation_t *op)
{
    if (!ngx_http_vidgen_next_is_open(op, op->next)
        || op->next->retry_at > ngx_time()
        || ngx_vidgen_health_admit(op->mcf->zone, &op->next->provider->name,
                                   &op->mcf->monitor.rule, 0) != NGX_OK)
    {
        ngx_http_vidgen_next_go_on(op);
        return;
    }

    ngx_http_vidgen_next_move(op);
}


/* closes the attempt and opens the next one, in one call */
static void
ngx_http_vidgen_next_move(ngx_http_vidgen_operation_t *op)
{
    ngx_int_t                         rc;
    ngx_pool_t                       *pool;
    ngx_vidgen_submit_t              *submit;
    ngx_vidgen_store_next_attempt_t  *params;

    pool = op->task.pool;
    submit = op->next->provider->submit;
    params = &op->params.next_attempt;

    ngx_memzero(params, sizeof(ngx_vidgen_store_next_attempt_t));

    params->job = op->job;
    params->attempt = op->attempt_id;
    params->state = ngx_vidgen_attempt_state_names[op->verdict.state];
    params->provider = op->next->provider->name;
    params->next.data = op->next_text;
    params->next.len = NGX_VIDGEN_UUID_LEN;

    rc = ngx_vidgen_uuid7(op->next_text);

    if (rc == NGX_OK) {
        rc = ngx_http_vidgen_operation_lease(op, &params->lease);
    }

    if (rc == NGX_OK) {
        rc = ngx_vidgen_store_copy(pool, &params->reason, &op->verdict.reason);
    }

    if (rc == NGX_OK) {
        rc = ngx_vidgen_store_copy(pool, &params->error, &op->verdict.message);
    }

    if (rc == NGX_OK && op->attempt.response.http_status) {
        rc = ngx_vidgen_text_number(pool, &params->http_status,
                                    op->attempt.response.http_status);
    }

    if (rc == NGX_OK && submit->max_jobs) {
        rc = ngx_vidgen_text_number(pool, &params->max_jobs, submit->max_jobs);
    }

    if (rc != NGX_OK) {
        ngx_http_vidgen_closer_abandon(op, NGX_HTTP_VIDGEN_PROVIDER_FAILED);
        return;
    }

    ngx_http_vidgen_closer_call(op, NGX_VIDGEN_STORE_NEXT_ATTEMPT,
                                ngx_http_vidgen_next_moved);
}


static void
ngx_http_vidgen_next_moved(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_pg_result_t *result)
{
    ngx_vidgen_store_next_attempt_row_t  row;

    (void) ngx_vidgen_store_row(result, &row, sizeof(row));

    if (ngx_vidgen_store_is(&row.outcome, "full")) {
        /* nothing was closed, nor opened */
        op->next->full++;
        ngx_http_vidgen_next_go_on(op);
        return;
    }

    if (!ngx_vidgen_store_is(&row.outcome, "go")) {
        /* a result has settled it, or the provider has this job already */
        ngx_http_vidgen_closer_abandon(op, ngx_http_vidgen_next_failure(op));
        return;
    }

    if (op->next != op->candidate) {
        ngx_log_error(NGX_LOG_NOTICE, op->task.log, 0,
                      "vidgen: job \"%V\": from provider \"%V\" to \"%V\": %V",
                      &op->job, &op->candidate->provider->name,
                      &op->next->provider->name, &op->verdict.reason);
    }

    ngx_memcpy(op->attempt_text, op->next_text, NGX_VIDGEN_UUID_LEN);
    op->candidate = op->next;
    op->resent = 0;

    ngx_http_vidgen_operation_attempt(op);
}
