#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_attempt_message.h"
#include "http/ngx_http_vidgen_scope.h"


static ngx_int_t ngx_http_vidgen_attempt_fill(ngx_http_vidgen_operation_t *op,
    ngx_http_vidgen_message_t *message);
static ngx_int_t ngx_http_vidgen_attempt_headers(ngx_pool_t *pool,
    ngx_http_vidgen_message_t *message, ngx_array_t *headers);
static ngx_uint_t ngx_http_vidgen_attempt_has(ngx_array_t *headers,
    ngx_str_t *name);
static ngx_int_t ngx_http_vidgen_attempt_header(ngx_pool_t *pool,
    ngx_http_vidgen_message_t *message, ngx_vidgen_pair_t *pair);
static ngx_int_t ngx_http_vidgen_attempt_body(ngx_pool_t *pool,
    ngx_http_vidgen_message_t *message, ngx_str_t *body);


ngx_int_t
ngx_http_vidgen_attempt_message(ngx_http_vidgen_operation_t *op,
    ngx_http_vidgen_message_t *message)
{
    ngx_int_t                 rc;
    ngx_http_request_t       *r;
    ngx_http_vidgen_scope_t   scope;

    r = op->task.request;

    if (ngx_http_vidgen_scope_enter(r, r->pool, op->variables, &scope)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    message->variables = r->variables;

    rc = ngx_http_vidgen_attempt_fill(op, message);

    ngx_http_vidgen_scope_leave(r, &scope);

    return rc;
}


static ngx_int_t
ngx_http_vidgen_attempt_fill(ngx_http_vidgen_operation_t *op,
    ngx_http_vidgen_message_t *message)
{
    ngx_int_t               rc;
    ngx_str_t               body;
    ngx_pool_t             *pool;
    ngx_array_t             headers;
    ngx_vidgen_request_t   *request;
    ngx_vidgen_provider_t  *provider;

    provider = op->candidate->provider;
    request = &provider->submit->request;
    pool = op->task.request->pool;

    if (ngx_http_vidgen_operation_source(op, provider) != NGX_OK
        || ngx_array_init(&headers, pool, 8, sizeof(ngx_vidgen_pair_t))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_vidgen_provider_url(request, &op->source, pool,
                                 &op->source.values[NGX_VIDGEN_VALUE_URL]);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_vidgen_provider_body(request, &op->source, pool, &body);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_vidgen_provider_headers(provider, request, &op->source, pool,
                                     &headers);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_vidgen_attempt_headers(pool, message, &headers);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_vidgen_attempt_body(pool, message, &body);
}


/* nothing of the client's headers reaches a provider */
static ngx_int_t
ngx_http_vidgen_attempt_headers(ngx_pool_t *pool,
    ngx_http_vidgen_message_t *message, ngx_array_t *headers)
{
    ngx_uint_t          i;
    ngx_vidgen_pair_t  *pair;

    static ngx_vidgen_pair_t  own[] = {
        { ngx_string("Content-Type"), ngx_string("application/json") },
        { ngx_string("Accept"), ngx_string("application/json") },
        { ngx_string("User-Agent"), ngx_string("ngx_http_vidgen_module") }
    };

    ngx_memzero(&message->headers_in, sizeof(ngx_http_headers_in_t));

    if (ngx_list_init(&message->headers_in.headers, pool, 8,
                      sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (!ngx_http_vidgen_attempt_has(headers, &own[i].name)
            && ngx_http_vidgen_attempt_header(pool, message, &own[i])
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    pair = headers->elts;

    for (i = 0; i < headers->nelts; i++) {
        if (ngx_http_vidgen_attempt_header(pool, message, &pair[i])
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_vidgen_attempt_has(ngx_array_t *headers, ngx_str_t *name)
{
    ngx_uint_t          i;
    ngx_vidgen_pair_t  *pair;

    pair = headers->elts;

    for (i = 0; i < headers->nelts; i++) {
        if (ngx_vidgen_text_same_name(&pair[i].name, name)) {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_vidgen_attempt_header(ngx_pool_t *pool,
    ngx_http_vidgen_message_t *message, ngx_vidgen_pair_t *pair)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&message->headers_in.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->key = pair->name;
    h->value = pair->value;
    h->lowcase_key = ngx_pnalloc(pool, pair->name.len);
    if (h->lowcase_key == NULL) {
        return NGX_ERROR;
    }

    h->hash = ngx_hash_strlow(h->lowcase_key, pair->name.data, pair->name.len);

    return NGX_OK;
}


/* what the proxy module sends is the body of the request it is given */
static ngx_int_t
ngx_http_vidgen_attempt_body(ngx_pool_t *pool,
    ngx_http_vidgen_message_t *message, ngx_str_t *body)
{
    ngx_buf_t  *b;

    message->body = ngx_pcalloc(pool, sizeof(ngx_http_request_body_t));
    b = ngx_calloc_buf(pool);

    if (message->body == NULL || b == NULL) {
        return NGX_ERROR;
    }

    message->body->bufs = ngx_alloc_chain_link(pool);
    if (message->body->bufs == NULL) {
        return NGX_ERROR;
    }

    b->pos = body->data;
    b->last = body->data + body->len;
    b->memory = 1;
    b->last_buf = 1;

    message->body->bufs->buf = b;
    message->body->bufs->next = NULL;
    message->headers_in.content_length_n = body->len;

    return NGX_OK;
}
