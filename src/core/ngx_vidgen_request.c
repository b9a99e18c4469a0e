#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"
#include "core/ngx_vidgen_provider.h"


static ngx_int_t ngx_vidgen_request_query(ngx_vidgen_request_t *request,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_vidgen_url_t *url);
static ngx_int_t ngx_vidgen_request_kept(ngx_vidgen_request_t *request,
    ngx_str_t *url);
static ngx_int_t ngx_vidgen_request_headers(ngx_array_t *fields,
    ngx_array_t *except, ngx_vidgen_source_t *source, ngx_pool_t *pool,
    ngx_array_t *pairs);
static ngx_uint_t ngx_vidgen_request_has_header(ngx_array_t *fields,
    ngx_str_t *name);
static ngx_uint_t ngx_vidgen_request_has_body(ngx_vidgen_request_t *request);


ngx_int_t
ngx_vidgen_provider_url(ngx_vidgen_request_t *request,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_str_t *url)
{
    ngx_int_t         rc;
    ngx_vidgen_url_t  full;

    rc = ngx_vidgen_template_fill(&request->url, source, pool, url);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_vidgen_template_starts_kept(&request->url)
        && ngx_vidgen_request_kept(request, url) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    if (request->query.nelts == 0) {
        return NGX_OK;
    }

    if (ngx_vidgen_url_start(&full, pool) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_vidgen_url_append(&full, url);

    if (rc == NGX_OK) {
        rc = ngx_vidgen_request_query(request, source, pool, &full);
    }

    *url = full.text;

    return rc;
}


/* a provider's answer must not send its key to somebody else's host */

static ngx_int_t
ngx_vidgen_request_kept(ngx_vidgen_request_t *request, ngx_str_t *url)
{
    ngx_str_t   *origin;
    ngx_uint_t   i;

    origin = request->origins->elts;

    for (i = 0; i < request->origins->nelts; i++) {
        if (ngx_vidgen_url_same_origin(&origin[i], url)) {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_vidgen_request_query(ngx_vidgen_request_t *request,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_vidgen_url_t *url)
{
    ngx_int_t            rc;
    ngx_str_t            value;
    ngx_uint_t           i;
    ngx_vidgen_field_t  *field;

    static ngx_str_t  first = ngx_string("?");
    static ngx_str_t  next = ngx_string("&");
    static ngx_str_t  equals = ngx_string("=");

    field = request->query.elts;

    for (i = 0; i < request->query.nelts; i++) {

        rc = ngx_vidgen_template_fill(&field[i].value, source, pool, &value);
        if (rc != NGX_OK) {
            return rc;
        }

        if (value.len == 0 && !field[i].value.constant) {
            continue;
        }

        if (ngx_vidgen_url_append(url, ngx_vidgen_url_path_end(&url->text)
                                       < url->text.len ? &next : &first)
            != NGX_OK
            || ngx_vidgen_url_escape(url, &field[i].name, 0) != NGX_OK
            || ngx_vidgen_url_append(url, &equals) != NGX_OK
            || ngx_vidgen_url_escape(url, &value, 0) != NGX_OK)
        {
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_provider_body(ngx_vidgen_request_t *request,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_str_t *body)
{
    ngx_int_t             rc;
    ngx_str_t             value;
    ngx_uint_t            i;
    ngx_vidgen_json_t    *root;
    ngx_vidgen_member_t  *member;

    ngx_str_null(body);

    if (!ngx_vidgen_request_has_body(request)) {
        return NGX_OK;
    }

    root = ngx_vidgen_json_object(pool);
    if (root == NULL) {
        return NGX_ERROR;
    }

    member = request->body.elts;

    for (i = 0; i < request->body.nelts; i++) {

        rc = ngx_vidgen_template_fill(&member[i].value, source, pool, &value);
        if (rc != NGX_OK) {
            return rc;
        }

        if (value.len == 0 && member[i].when_set) {
            continue;
        }

        rc = ngx_vidgen_json_put(root, &member[i].pointer, member[i].type,
                                 &value);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    return ngx_vidgen_json_dump(root, pool, body);
}


static ngx_uint_t
ngx_vidgen_request_has_body(ngx_vidgen_request_t *request)
{
    return request->method.len == 4
           && ngx_strncmp(request->method.data, "POST", 4) == 0;
}


ngx_int_t
ngx_vidgen_provider_headers(ngx_vidgen_provider_t *provider,
    ngx_vidgen_request_t *request, ngx_vidgen_source_t *source,
    ngx_pool_t *pool, ngx_array_t *pairs)
{
    ngx_int_t  rc;

    rc = ngx_vidgen_request_headers(&provider->headers, &request->headers,
                                    source, pool, pairs);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_vidgen_request_headers(&request->headers, NULL, source, pool,
                                      pairs);
}


static ngx_int_t
ngx_vidgen_request_headers(ngx_array_t *fields, ngx_array_t *except,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_array_t *pairs)
{
    ngx_int_t            rc;
    ngx_str_t            value;
    ngx_uint_t           i;
    ngx_vidgen_pair_t   *pair;
    ngx_vidgen_field_t  *field;

    field = fields->elts;

    for (i = 0; i < fields->nelts; i++) {

        if (except && ngx_vidgen_request_has_header(except, &field[i].name)) {
            continue;
        }

        rc = ngx_vidgen_template_fill(&field[i].value, source, pool, &value);
        if (rc != NGX_OK) {
            return rc;
        }

        if (value.len == 0) {
            continue;
        }

        if (ngx_vidgen_text_has_control(&value)) {
            return NGX_DECLINED;
        }

        pair = ngx_array_push(pairs);
        if (pair == NULL) {
            return NGX_ERROR;
        }

        pair->name = field[i].name;
        pair->value = value;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_vidgen_request_has_header(ngx_array_t *fields, ngx_str_t *name)
{
    ngx_uint_t           i;
    ngx_vidgen_field_t  *field;

    field = fields->elts;

    for (i = 0; i < fields->nelts; i++) {
        if (ngx_vidgen_text_same_name(&field[i].name, name)) {
            return 1;
        }
    }

    return 0;
}
