#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_body.h"


static u_char *ngx_http_vidgen_body_copy(u_char *p, ngx_buf_t *b);


ngx_int_t
ngx_http_vidgen_body(ngx_http_request_t *r, ngx_str_t *body)
{
    off_t         size;
    u_char       *p;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    ngx_str_set(body, "");

    if (r->request_body == NULL || r->request_body->bufs == NULL) {
        return NGX_OK;
    }

    cl = r->request_body->bufs;
    b = cl->buf;

    if (cl->next == NULL && !b->in_file) {
        body->data = b->pos;
        body->len = b->last - b->pos;
        return NGX_OK;
    }

    size = 0;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        size += ngx_buf_size(cl->buf);
    }

    p = ngx_pnalloc(r->pool, size + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        p = ngx_http_vidgen_body_copy(p, cl->buf);
        if (p == NULL) {
            return NGX_ERROR;
        }
    }

    body->len = p - body->data;

    return NGX_OK;
}


/*
 * A temporary file was written a moment ago and comes from the page cache;
 * how large it gets is bounded by client_max_body_size.
 */
static u_char *
ngx_http_vidgen_body_copy(u_char *p, ngx_buf_t *b)
{
    size_t   size;
    ssize_t  n;

    if (ngx_buf_in_memory(b)) {
        return ngx_cpymem(p, b->pos, b->last - b->pos);
    }

    if (!b->in_file) {
        return p;
    }

    size = b->file_last - b->file_pos;

    n = ngx_read_file(b->file, p, size, b->file_pos);

    if (n == NGX_ERROR || (size_t) n != size) {
        return NULL;
    }

    return p + size;
}
