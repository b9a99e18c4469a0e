#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"
#include "core/ngx_vidgen_template.h"
#include "core/ngx_vidgen_template_part.h"
#include "core/ngx_vidgen_url.h"


static ngx_int_t ngx_vidgen_template_value(ngx_vidgen_part_t *part,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_str_t *value);
static void ngx_vidgen_template_find_kept(ngx_array_t *kept, ngx_str_t *name,
    ngx_str_t *value);
static ngx_int_t ngx_vidgen_template_escaped(ngx_vidgen_source_t *source,
    ngx_pool_t *pool, ngx_str_t *value);
static ngx_int_t ngx_vidgen_template_join(ngx_pool_t *pool,
    ngx_array_t *pieces, ngx_str_t *value);
static ngx_int_t ngx_vidgen_template_fill_url(ngx_vidgen_template_t *template,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_str_t *value);


static ngx_int_t
ngx_vidgen_template_value(ngx_vidgen_part_t *part,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_str_t *value)
{
    ngx_str_null(value);

    switch (part->kind) {

    case NGX_VIDGEN_PART_LITERAL:
        *value = part->text;
        return NGX_OK;

    case NGX_VIDGEN_PART_VALUE:

        if (part->index == NGX_VIDGEN_VALUE_WEBHOOK_URL_ESCAPED) {
            return ngx_vidgen_template_escaped(source, pool, value);
        }

        if (source->values[part->index].data) {
            *value = source->values[part->index];
        }

        return NGX_OK;

    case NGX_VIDGEN_PART_KEPT:

        if (source->kept) {
            ngx_vidgen_template_find_kept(source->kept, &part->text, value);
        }

        return NGX_OK;

    default: /* NGX_VIDGEN_PART_VARIABLE */

        return source->variable
               ? source->variable(source->data, part->index, value)
               : NGX_OK;
    }
}


/* the last one counts: what poll kept comes after what submit kept */

static void
ngx_vidgen_template_find_kept(ngx_array_t *kept, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_uint_t          i;
    ngx_vidgen_pair_t  *pair;

    pair = kept->elts;

    for (i = 0; i < kept->nelts; i++) {
        if (ngx_vidgen_text_same(&pair[i].name, name)) {
            *value = pair[i].value;
        }
    }
}


static ngx_int_t
ngx_vidgen_template_escaped(ngx_vidgen_source_t *source, ngx_pool_t *pool,
    ngx_str_t *value)
{
    ngx_str_t  *url;

    url = &source->values[NGX_VIDGEN_VALUE_WEBHOOK_URL];

    if (url->data == NULL) {
        return NGX_OK;
    }

    value->data = ngx_pnalloc(pool, 3 * url->len + 1);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    value->len = ngx_vidgen_text_escape(value->data, url, 0) - value->data;

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_template_pieces(ngx_vidgen_template_t *template,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_array_t *pieces)
{
    ngx_str_t           value, *piece;
    ngx_uint_t          i;
    ngx_vidgen_part_t  *part;

    part = template->parts.elts;

    for (i = 0; i < template->parts.nelts; i++) {

        if (ngx_vidgen_template_value(&part[i], source, pool, &value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (value.len == 0) {
            continue;
        }

        piece = ngx_array_push(pieces);
        if (piece == NULL) {
            return NGX_ERROR;
        }

        *piece = value;
    }

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_template_fill(ngx_vidgen_template_t *template,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_str_t *value)
{
    ngx_array_t  pieces;

    if (template->mode == NGX_VIDGEN_TEMPLATE_URL) {
        return ngx_vidgen_template_fill_url(template, source, pool, value);
    }

    if (template->constant) {
        *value = template->text;
        return NGX_OK;
    }

    if (ngx_array_init(&pieces, pool, template->parts.nelts,
                       sizeof(ngx_str_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_vidgen_template_pieces(template, source, pool, &pieces)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_vidgen_template_join(pool, &pieces, value);
}


static ngx_int_t
ngx_vidgen_template_join(ngx_pool_t *pool, ngx_array_t *pieces,
    ngx_str_t *value)
{
    u_char      *p;
    ngx_str_t   *piece;
    ngx_uint_t   i;

    piece = pieces->elts;

    if (pieces->nelts == 1) {
        *value = piece[0];
        return NGX_OK;
    }

    value->len = 0;

    for (i = 0; i < pieces->nelts; i++) {
        value->len += piece[i].len;
    }

    p = ngx_pnalloc(pool, value->len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;

    for (i = 0; i < pieces->nelts; i++) {
        p = ngx_cpymem(p, piece[i].data, piece[i].len);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_template_fill_url(ngx_vidgen_template_t *template,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_str_t *value)
{
    size_t              fixed;
    ngx_int_t           rc;
    ngx_str_t           piece;
    ngx_uint_t          i;
    ngx_vidgen_part_t  *part;
    ngx_vidgen_url_t    url;

    if (ngx_vidgen_url_start(&url, pool) != NGX_OK) {
        return NGX_ERROR;
    }

    fixed = 0;
    part = template->parts.elts;

    for (i = 0; i < template->parts.nelts; i++) {

        if (ngx_vidgen_template_value(&part[i], source, pool, &piece)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (part[i].kind == NGX_VIDGEN_PART_LITERAL
            || ngx_vidgen_template_raw(template, i)
            || (part[i].kind == NGX_VIDGEN_PART_VALUE
                && part[i].index == NGX_VIDGEN_VALUE_WEBHOOK_URL_ESCAPED))
        {
            rc = ngx_vidgen_url_append(&url, &piece);

        } else {
            rc = ngx_vidgen_url_escape(&url, &piece, part[i].slashes);
        }

        if (rc != NGX_OK) {
            return rc;
        }

        if (i == 0) {
            fixed = ngx_vidgen_template_raw(template, 0)
                    ? url.text.len : ngx_vidgen_url_origin(&url.text);
        }
    }

    *value = url.text;

    return ngx_vidgen_url_check_path(&url.text, fixed, template->slash);
}
