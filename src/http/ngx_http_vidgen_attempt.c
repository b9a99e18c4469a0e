#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_attempt.h"
#include "http/ngx_http_vidgen_attempt_message.h"
#include "http/ngx_http_vidgen_attempt_response.h"


static ngx_int_t ngx_http_vidgen_attempt_done(ngx_http_request_t *sr,
    void *data, ngx_int_t rc);
static void ngx_http_vidgen_attempt_begun(ngx_event_t *ev);
static void ngx_http_vidgen_attempt_finalize(ngx_http_request_t *sr,
    ngx_int_t rc);
static void ngx_http_vidgen_attempt_wake(ngx_http_request_t *r);
static void ngx_http_vidgen_attempt_timeout(ngx_event_t *ev);
static void ngx_http_vidgen_attempt_expire(ngx_http_upstream_t *u);


/* the proxy module's own, the same for all its requests */
static void (*ngx_http_vidgen_attempt_proxy_finalize)(ngx_http_request_t *r,
    ngx_int_t rc);


ngx_int_t
ngx_http_vidgen_attempt_start(ngx_http_vidgen_operation_t *op)
{
    ngx_int_t                    rc;
    ngx_http_request_t          *r, *sr;
    ngx_http_vidgen_message_t    message;
    ngx_http_post_subrequest_t  *ps;

    r = op->task.request;

    rc = ngx_http_vidgen_attempt_message(op, &message);
    if (rc != NGX_OK) {
        return rc;
    }

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    if (ps == NULL) {
        return NGX_ERROR;
    }

    ps->handler = ngx_http_vidgen_attempt_done;
    ps->data = op;

    if (ngx_http_subrequest(r, &op->lcf->pass, NULL, &sr, ps,
                            NGX_HTTP_SUBREQUEST_WAITED
                            |NGX_HTTP_SUBREQUEST_IN_MEMORY)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_memzero(&op->attempt, sizeof(ngx_http_vidgen_attempt_t));
    op->attempt.subrequest = sr;
    op->attempt.started = ngx_current_msec;

    /* nginx resends what is not POST; only the method's number decides */

    sr->method = NGX_HTTP_POST;
    ngx_str_set(&sr->method_name, "POST");
    sr->variables = message.variables;
    sr->headers_in = message.headers_in;
    sr->request_body = message.body;

    if (sr->headers_in.headers.last == &message.headers_in.headers.part) {
        /* the copy's own, or a module that adds a header writes to the stack */
        sr->headers_in.headers.last = &sr->headers_in.headers.part;
    }

    r->write_event_handler = ngx_http_vidgen_attempt_wake;

    op->attempt.timer.handler = ngx_http_vidgen_attempt_timeout;
    op->attempt.timer.data = op;
    op->attempt.timer.log = op->task.log;

    ngx_add_timer(&op->attempt.timer,
                  ngx_max(ngx_http_vidgen_operation_time(op, 0),
                          ngx_http_vidgen_attempt_least(op)));

    op->attempt.begun.handler = ngx_http_vidgen_attempt_begun;
    op->attempt.begun.data = op;
    op->attempt.begun.log = op->task.log;

    ngx_post_event(&op->attempt.begun, &ngx_posted_events);

    return NGX_OK;
}


/* may be called more than once, and rc is no verdict */
static ngx_int_t
ngx_http_vidgen_attempt_done(ngx_http_request_t *sr, void *data, ngx_int_t rc)
{
    ngx_http_vidgen_operation_t *op = data;

    if (op->attempt.subrequest == sr && !op->attempt.done) {
        ngx_http_vidgen_attempt_response(op, sr, rc);
    }

    return NGX_OK;
}


/*
 * Runs after the subrequest has, and before a network could answer.  Where a
 * connection ended is only to be seen before the upstream closes it, and
 * finalize_request is the last that it calls by then.
 */
static void
ngx_http_vidgen_attempt_begun(ngx_event_t *ev)
{
    ngx_http_vidgen_operation_t *op = ev->data;

    ngx_http_upstream_t  *u;

    if (op->attempt.done || op->attempt.subrequest == NULL) {
        return;
    }

    u = op->attempt.subrequest->upstream;

    if (u && u->finalize_request
        && u->finalize_request != ngx_http_vidgen_attempt_finalize)
    {
        ngx_http_vidgen_attempt_proxy_finalize = u->finalize_request;
        u->finalize_request = ngx_http_vidgen_attempt_finalize;
    }
}


static void
ngx_http_vidgen_attempt_finalize(ngx_http_request_t *sr, ngx_int_t rc)
{
    ngx_connection_t             *pc;
    ngx_http_vidgen_ctx_t        *ctx;
    ngx_http_vidgen_operation_t  *op;

    ctx = ngx_http_vidgen_ctx(sr, 0);
    op = ctx ? ctx->operation : NULL;
    pc = sr->upstream->peer.connection;

#if (NGX_HTTP_SSL)

    if (op && op->attempt.subrequest == sr && pc && pc->ssl) {
        op->attempt.tls = !sr->upstream->request_sent;
    }

#endif

    ngx_http_vidgen_attempt_proxy_finalize(sr, rc);
}


/* the parent's turn after its subrequest */
static void
ngx_http_vidgen_attempt_wake(ngx_http_request_t *r)
{
    ngx_http_vidgen_ctx_t        *ctx;
    ngx_http_vidgen_operation_t  *op;

    ctx = ngx_http_vidgen_ctx(r, 0);

    if (ctx == NULL || ctx->operation == NULL) {
        return;
    }

    op = ctx->operation;

    if (!op->attempt.done) {
        return;
    }

    r->write_event_handler = ngx_http_request_empty_handler;
    op->attempt.subrequest = NULL;

    ngx_http_vidgen_operation_attempted(op);
}


ngx_uint_t
ngx_http_vidgen_attempt_cut(ngx_http_vidgen_operation_t *op)
{
    ngx_http_request_t  *sr;

    sr = op->attempt.subrequest;

    if (sr == NULL) {
        return 0;
    }

    if (!op->attempt.done) {
        op->attempt.cut = 1;
        ngx_http_vidgen_attempt_response(op, sr, NGX_HTTP_BAD_GATEWAY);

        if (op->attempt.response.transport == NGX_VIDGEN_TRANSPORT_ANSWERED) {
            /* the answer was still coming in */
            op->attempt.response.transport = NGX_VIDGEN_TRANSPORT_RESET;
        }
    }

    op->attempt.subrequest = NULL;

    return 1;
}


static void
ngx_http_vidgen_attempt_timeout(ngx_event_t *ev)
{
    ngx_http_vidgen_operation_t *op = ev->data;

    ngx_connection_t     *c;
    ngx_http_request_t   *sr;
    ngx_http_upstream_t  *u;

    sr = op->attempt.subrequest;

    if (sr == NULL || op->attempt.done) {
        return;
    }

    op->attempt.timedout = 1;
    u = sr->upstream;
    c = sr->connection;

    if (u == NULL) {
        ngx_http_finalize_request(sr, NGX_HTTP_GATEWAY_TIME_OUT);

    } else {
        ngx_http_vidgen_attempt_expire(u);
    }

    ngx_http_run_posted_requests(c);
}


/* lets the upstream find that its own timer has fired, with no try left */
static void
ngx_http_vidgen_attempt_expire(ngx_http_upstream_t *u)
{
    ngx_event_t         *ev;
    ngx_connection_t    *pc;
    ngx_resolver_ctx_t  *ctx;

    u->peer.tries = 0;

    if (u->resolved && u->resolved->ctx) {
        ctx = u->resolved->ctx;
        ctx->state = NGX_RESOLVE_TIMEDOUT;
        ctx->handler(ctx);
        return;
    }

    pc = u->peer.connection;

    if (pc == NULL) {
        return;
    }

    ev = pc->write->timer_set ? pc->write : pc->read;

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }

    ev->timedout = 1;
    ev->handler(ev);
}
