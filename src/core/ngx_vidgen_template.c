#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"
#include "core/ngx_vidgen_template.h"
#include "core/ngx_vidgen_template_part.h"
#include "core/ngx_vidgen_url.h"


#define NGX_VIDGEN_KEPT_PREFIX      "vidgen_kept_"
#define NGX_VIDGEN_KEPT_PREFIX_LEN  (sizeof(NGX_VIDGEN_KEPT_PREFIX) - 1)


static char *ngx_vidgen_template_literal(ngx_vidgen_template_t *template,
    u_char *start, u_char *end);
static char *ngx_vidgen_template_name(ngx_str_t *text, u_char **pos,
    ngx_str_t *name);
static char *ngx_vidgen_template_variable(ngx_conf_t *cf, ngx_str_t *name,
    ngx_vidgen_template_lookup_pt lookup, ngx_vidgen_template_t *template);
static ngx_int_t ngx_vidgen_template_own(ngx_str_t *name,
    ngx_vidgen_part_t *part);
static char *ngx_vidgen_template_check_url(ngx_vidgen_template_t *template);
static char *ngx_vidgen_template_check_start(ngx_vidgen_template_t *template);
static ngx_uint_t ngx_vidgen_template_may_slash(
    ngx_vidgen_template_t *template);


/* by ngx_vidgen_value_e */
ngx_str_t  ngx_vidgen_value_names[NGX_VIDGEN_VALUES] = {
    ngx_string("vidgen_url"),
    ngx_string("vidgen_base"),
    ngx_string("vidgen_api_key"),
    ngx_string("vidgen_prompt"),
    ngx_string("vidgen_model"),
    ngx_string("vidgen_duration"),
    ngx_string("vidgen_aspect_ratio"),
    ngx_string("vidgen_user"),
    ngx_string("vidgen_attempt_id"),
    ngx_string("vidgen_webhook_url"),
    ngx_string("vidgen_webhook_url_escaped"),
    ngx_string("vidgen_provider_job_id"),
    ngx_string("vidgen_body"),
    ngx_string("vidgen_body_sha256"),
    ngx_string("vidgen_timestamp")
};


/* the same value, with slashes that stay slashes in a URL */
static const struct {
    ngx_str_t           name;
    ngx_vidgen_value_e  value;
} ngx_vidgen_value_paths[] = {
    { ngx_string("vidgen_model_path"), NGX_VIDGEN_VALUE_MODEL },
    { ngx_string("vidgen_provider_job_id_path"),
      NGX_VIDGEN_VALUE_PROVIDER_JOB_ID }
};


char *
ngx_vidgen_template_compile(ngx_conf_t *cf, ngx_str_t *text,
    ngx_vidgen_template_mode_e mode, ngx_vidgen_template_lookup_pt lookup,
    ngx_vidgen_template_t *template)
{
    char       *rv;
    u_char     *p, *start, *last;
    ngx_str_t   name;

    ngx_memzero(template, sizeof(ngx_vidgen_template_t));

    template->text = *text;
    template->mode = mode;
    template->constant = 1;

    if (ngx_array_init(&template->parts, cf->pool, 2,
                       sizeof(ngx_vidgen_part_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    p = text->data;
    last = text->data + text->len;

    while (p < last) {

        start = p;

        while (p < last && *p != '$') {
            p++;
        }

        rv = ngx_vidgen_template_literal(template, start, p);

        if (rv == NGX_CONF_OK && p < last) {
            rv = ngx_vidgen_template_name(text, &p, &name);

            if (rv == NGX_CONF_OK) {
                rv = ngx_vidgen_template_variable(cf, &name, lookup,
                                                  template);
            }
        }

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return mode == NGX_VIDGEN_TEMPLATE_URL
           ? ngx_vidgen_template_check_url(template) : NGX_CONF_OK;
}


static char *
ngx_vidgen_template_literal(ngx_vidgen_template_t *template, u_char *start,
    u_char *end)
{
    ngx_vidgen_part_t  *part;

    if (start == end) {
        return NGX_CONF_OK;
    }

    part = ngx_array_push(&template->parts);
    if (part == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(part, sizeof(ngx_vidgen_part_t));

    part->kind = NGX_VIDGEN_PART_LITERAL;
    part->text.data = start;
    part->text.len = end - start;

    return NGX_CONF_OK;
}


/* reads "$name" or "${name}" at *pos and steps over it */

static char *
ngx_vidgen_template_name(ngx_str_t *text, u_char **pos, ngx_str_t *name)
{
    u_char      *p, *last;
    ngx_uint_t   braces;

    p = *pos + 1;
    last = text->data + text->len;
    braces = (p < last && *p == '{');

    if (braces) {
        p++;
    }

    name->data = p;

    while (p < last
           && (((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z')
               || (*p >= '0' && *p <= '9') || *p == '_'))
    {
        p++;
    }

    name->len = p - name->data;

    if (name->len == 0) {
        return "has an invalid variable name";
    }

    if (braces) {

        if (p == last || *p != '}') {
            return "has no closing \"}\" after a variable name";
        }

        p++;
    }

    *pos = p;

    return NGX_CONF_OK;
}


static char *
ngx_vidgen_template_variable(ngx_conf_t *cf, ngx_str_t *name,
    ngx_vidgen_template_lookup_pt lookup, ngx_vidgen_template_t *template)
{
    u_char             *message;
    ngx_int_t           index;
    ngx_vidgen_part_t  *part;

    part = ngx_array_push(&template->parts);
    if (part == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(part, sizeof(ngx_vidgen_part_t));

    template->constant = 0;

    if (ngx_vidgen_template_own(name, part) == NGX_OK) {

        if (part->kind == NGX_VIDGEN_PART_VALUE) {
            template->uses |= (ngx_uint_t) 1 << part->index;
        }

        return NGX_CONF_OK;
    }

    if (lookup == NULL) {
        message = ngx_pnalloc(cf->pool, name->len + 128);
        if (message == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_sprintf(message, "may use only the variables of provider "
                    "definitions, not \"$%V\"%Z", name);
        return (char *) message;
    }

    index = lookup(cf, name);
    if (index == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    part->kind = NGX_VIDGEN_PART_VARIABLE;
    part->index = index;
    template->foreign = 1;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_vidgen_template_own(ngx_str_t *name, ngx_vidgen_part_t *part)
{
    ngx_uint_t  i;

    if (name->len > NGX_VIDGEN_KEPT_PREFIX_LEN
        && ngx_strncmp(name->data, NGX_VIDGEN_KEPT_PREFIX,
                       NGX_VIDGEN_KEPT_PREFIX_LEN)
           == 0)
    {
        part->kind = NGX_VIDGEN_PART_KEPT;
        part->text.data = name->data + NGX_VIDGEN_KEPT_PREFIX_LEN;
        part->text.len = name->len - NGX_VIDGEN_KEPT_PREFIX_LEN;
        return NGX_OK;
    }

    part->kind = NGX_VIDGEN_PART_VALUE;

    for (i = 0; i < NGX_VIDGEN_VALUES; i++) {
        if (ngx_vidgen_text_same(&ngx_vidgen_value_names[i], name)) {
            part->index = i;
            return NGX_OK;
        }
    }

    for (i = 0; i < sizeof(ngx_vidgen_value_paths)
                    / sizeof(ngx_vidgen_value_paths[0]); i++)
    {
        if (ngx_vidgen_text_same(&ngx_vidgen_value_paths[i].name, name)) {
            part->index = ngx_vidgen_value_paths[i].value;
            part->slashes = 1;
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


/*
 * A URL must say its host before anything that a client sent: it begins with
 * the base, with a kept URL or with a literal host, and goes on with a path.
 */

static char *
ngx_vidgen_template_check_url(ngx_vidgen_template_t *template)
{
    char               *rv;
    ngx_str_t          *text;
    ngx_uint_t          i;
    ngx_vidgen_part_t  *part;

    if (template->parts.nelts == 0) {
        return "is empty";
    }

    part = template->parts.elts;

    for (i = 0; i < template->parts.nelts; i++) {
        if (part[i].kind == NGX_VIDGEN_PART_LITERAL
            && !ngx_vidgen_url_is_clean(&part[i].text))
        {
            return "has a character that a URL cannot have";
        }
    }

    rv = ngx_vidgen_template_check_start(template);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    template->slash = ngx_vidgen_template_may_slash(template);

    text = &template->text;

    if (template->constant
        && ngx_vidgen_url_check_path(text, ngx_vidgen_url_origin(text),
                                     template->slash)
           != NGX_OK)
    {
        return "has \".\", \"..\" or nothing between the slashes of its path";
    }

    return NGX_CONF_OK;
}


static char *
ngx_vidgen_template_check_start(ngx_vidgen_template_t *template)
{
    size_t              host;
    ngx_uint_t          n;
    ngx_vidgen_part_t  *part;

    part = template->parts.elts;
    n = template->parts.nelts;

    if (ngx_vidgen_template_raw(template, 0)) {

        if (n > 1 && (part[1].kind != NGX_VIDGEN_PART_LITERAL
                      || (part[1].text.data[0] != '/'
                          && part[1].text.data[0] != '?')))
        {
            return "must go on with \"/\" or \"?\" after its first variable";
        }

        return NGX_CONF_OK;
    }

    host = part[0].kind == NGX_VIDGEN_PART_LITERAL
           ? ngx_vidgen_url_origin(&part[0].text) : 0;

    if (host == 0) {
        return "must begin with \"$vidgen_base\", with a kept URL, or with "
               "\"http://\" or \"https://\" and a host without user";
    }

    if (host == part[0].text.len && n > 1) {
        return "may have no variable in its host";
    }

    return NGX_CONF_OK;
}


/* 1: its path ends with a slash of the definition, not after a variable */

static ngx_uint_t
ngx_vidgen_template_may_slash(ngx_vidgen_template_t *template)
{
    size_t              end;
    ngx_str_t          *text;
    ngx_uint_t          i, slash;
    ngx_vidgen_part_t  *part;

    slash = 0;
    part = template->parts.elts;

    for (i = 0; i < template->parts.nelts; i++) {

        if (part[i].kind != NGX_VIDGEN_PART_LITERAL) {
            slash = ngx_vidgen_template_raw(template, i);
            continue;
        }

        text = &part[i].text;
        end = ngx_vidgen_url_path_end(text);

        if (end > 0) {
            slash = (text->data[end - 1] == '/');
        }

        if (end < text->len) {
            break;
        }
    }

    return slash;
}


ngx_uint_t
ngx_vidgen_template_raw(ngx_vidgen_template_t *template, ngx_uint_t i)
{
    ngx_vidgen_part_t  *part;

    part = template->parts.elts;

    return i == 0
           && (part[0].kind == NGX_VIDGEN_PART_KEPT
               || (part[0].kind == NGX_VIDGEN_PART_VALUE
                   && part[0].index == NGX_VIDGEN_VALUE_BASE));
}


ngx_str_t *
ngx_vidgen_template_kept(ngx_vidgen_template_t *template, ngx_uint_t n)
{
    ngx_uint_t          i;
    ngx_vidgen_part_t  *part;

    part = template->parts.elts;

    for (i = 0; i < template->parts.nelts; i++) {
        if (part[i].kind == NGX_VIDGEN_PART_KEPT && n-- == 0) {
            return &part[i].text;
        }
    }

    return NULL;
}


ngx_uint_t
ngx_vidgen_template_starts_kept(ngx_vidgen_template_t *template)
{
    ngx_vidgen_part_t  *part;

    part = template->parts.elts;

    return template->parts.nelts > 0
           && part[0].kind == NGX_VIDGEN_PART_KEPT;
}
