#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_attempt_response.h"
#include "http/ngx_http_vidgen_request.h"


static ngx_vidgen_transport_e ngx_http_vidgen_attempt_transport(
    ngx_http_vidgen_operation_t *op, ngx_http_request_t *sr, ngx_int_t rc);
static void ngx_http_vidgen_attempt_body(ngx_http_vidgen_operation_t *op,
    ngx_http_request_t *sr);
static ngx_uint_t ngx_http_vidgen_attempt_is_large(ngx_http_request_t *sr);
static ngx_uint_t ngx_http_vidgen_attempt_sent(ngx_http_request_t *sr);
static time_t ngx_http_vidgen_attempt_retry_after(ngx_http_upstream_t *u);


void
ngx_http_vidgen_attempt_response(ngx_http_vidgen_operation_t *op,
    ngx_http_request_t *sr, ngx_int_t rc)
{
    ngx_http_upstream_t    *u;
    ngx_vidgen_response_t  *response;

    u = sr->upstream;
    response = &op->attempt.response;

    op->attempt.done = 1;
    op->attempt.retry_after = -1;

    if (op->attempt.timer.timer_set) {
        ngx_del_timer(&op->attempt.timer);
    }

    if (op->attempt.begun.posted) {
        ngx_delete_posted_event(&op->attempt.begun);
    }

    response->sent = ngx_http_vidgen_attempt_sent(sr);

    if (op->attempt.timedout && !op->attempt.unread) {
        response->transport = NGX_VIDGEN_TRANSPORT_TIMEOUT;
        return;
    }

    if (u == NULL || !u->header_sent) {
        response->transport = ngx_http_vidgen_attempt_transport(op, sr, rc);
        return;
    }

    response->transport = NGX_VIDGEN_TRANSPORT_ANSWERED;
    response->http_status = u->headers_in.status_n;
    op->attempt.retry_after = ngx_http_vidgen_attempt_retry_after(u);

    response->unread = op->attempt.unread;
    response->too_large = ngx_http_vidgen_attempt_is_large(sr);

    if (!response->unread) {
        ngx_http_vidgen_attempt_body(op, sr);
    }
}


static ngx_vidgen_transport_e
ngx_http_vidgen_attempt_transport(ngx_http_vidgen_operation_t *op,
    ngx_http_request_t *sr, ngx_int_t rc)
{
    ngx_http_upstream_t  *u;

    u = sr->upstream;

    if (rc == NGX_HTTP_GATEWAY_TIME_OUT) {
        return NGX_VIDGEN_TRANSPORT_TIMEOUT;
    }

    if (op->attempt.response.sent) {
        return NGX_VIDGEN_TRANSPORT_RESET;
    }

    if (op->attempt.tls) {
        return NGX_VIDGEN_TRANSPORT_TLS;
    }

    if (u && u->resolved && u->resolved->sockaddr == NULL
        && u->resolved->naddrs == 0 && u->upstream == NULL)
    {
        return NGX_VIDGEN_TRANSPORT_DNS;
    }

    return NGX_VIDGEN_TRANSPORT_CONNECT;
}


static void
ngx_http_vidgen_attempt_body(ngx_http_vidgen_operation_t *op,
    ngx_http_request_t *sr)
{
    ngx_buf_t  *b;
    ngx_str_t  *body;

    if (sr->out == NULL || sr->out->buf == NULL) {
        return;
    }

    b = sr->out->buf;
    body = &op->attempt.response.body;

    body->data = ngx_pnalloc(op->task.pool, b->last - b->pos + 1);

    if (body->data) {
        body->len = b->last - b->pos;
        ngx_memcpy(body->data, b->pos, body->len);
    }
}


/* more than the subrequest's buffer holds */
static ngx_uint_t
ngx_http_vidgen_attempt_is_large(ngx_http_request_t *sr)
{
    off_t                      size;
    ngx_http_upstream_t       *u;
    ngx_http_core_loc_conf_t  *clcf;

    u = sr->upstream;
    clcf = ngx_http_get_module_loc_conf(sr, ngx_http_core_module);
    size = clcf->subrequest_output_buffer_size;

    return u->headers_in.content_length_n > size
           || (u->state && u->state->response_length > size);
}


/*
 * Whether a byte of the request may have left.  Of the times that nginx
 * keeps none proves it; a TLS handshake does not count.
 */
static ngx_uint_t
ngx_http_vidgen_attempt_sent(ngx_http_request_t *sr)
{
    ngx_uint_t                  i;
    ngx_http_upstream_t        *u;
    ngx_http_upstream_state_t  *state;

    u = sr->upstream;

    if (u == NULL) {
        return 0;
    }

    if (u->peer.connection && u->peer.connection->sent) {
        return 1;
    }

    if (sr->upstream_states) {
        state = sr->upstream_states->elts;

        for (i = 0; i < sr->upstream_states->nelts; i++) {
            if (state[i].bytes_sent) {
                return 1;
            }
        }
    }

    return 0;
}


/* seconds, of the first that says them; -1: not said */
static time_t
ngx_http_vidgen_attempt_retry_after(ngx_http_upstream_t *u)
{
    time_t            seconds;
    ngx_uint_t        n;
    ngx_list_t       *headers;
    ngx_table_elt_t  *header;

    static ngx_str_t  name = ngx_string("retry-after");

    headers = &u->headers_in.headers;

    for (n = 0; (header = ngx_http_vidgen_header(headers, &name, n)); n++) {
        seconds = ngx_vidgen_text_retry_after(&header->value);

        if (seconds != -1) {
            return seconds;
        }
    }

    return -1;
}
