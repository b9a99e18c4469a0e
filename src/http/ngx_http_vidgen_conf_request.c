#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_conf_block.h"
#include "http/ngx_http_vidgen_conf_knob.h"


static ngx_uint_t ngx_http_vidgen_conf_is(ngx_str_t *text, const char *word);
static char *ngx_http_vidgen_conf_body_fits(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, ngx_vidgen_member_t *member);
static ngx_uint_t ngx_http_vidgen_conf_has_field(ngx_array_t *fields,
    ngx_str_t *name);


/* those that make up the message are not a definition's */
static const char  *ngx_http_vidgen_conf_own_headers[] = {
    "Connection", "Content-Encoding", "Content-Length", "Content-Type",
    "Expect", "Host", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding",
    "Upgrade", NULL
};

static const struct {
    const char              *name;
    ngx_vidgen_json_type_e   type;
} ngx_http_vidgen_conf_types[] = {
    { "string", NGX_VIDGEN_JSON_STRING },
    { "number", NGX_VIDGEN_JSON_NUMBER },
    { "integer", NGX_VIDGEN_JSON_INTEGER },
    { "boolean", NGX_VIDGEN_JSON_BOOLEAN },
    { "json", NGX_VIDGEN_JSON_RAW },
    { NULL, 0 }
};

/* a request that makes a job must not be one that nginx sends again */
static const struct {
    const char  *name;
    ngx_uint_t   parts;
} ngx_http_vidgen_conf_methods[] = {
    { "POST", NGX_HTTP_VIDGEN_REQUEST_CONF },
    { "GET", NGX_HTTP_VIDGEN_POLL_CONF|NGX_HTTP_VIDGEN_PROBE_CONF },
    { "HEAD", NGX_HTTP_VIDGEN_PROBE_CONF },
    { "OPTIONS", NGX_HTTP_VIDGEN_PROBE_CONF },
    { NULL, 0 }
};


char *
ngx_http_vidgen_conf_url(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t             *value;
    ngx_vidgen_request_t  *request;

    value = cf->args->elts;
    request = ngx_http_vidgen_conf_block(cf)->request;

    if (request->url.text.data) {
        return "is duplicate";
    }

    return ngx_http_vidgen_conf_template(cf, &value[1],
                                         NGX_VIDGEN_TEMPLATE_URL, 1,
                                         &request->url);
}


char *
ngx_http_vidgen_conf_method(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                *value;
    ngx_uint_t                i;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);
    value = cf->args->elts;

    for (i = 0; ngx_http_vidgen_conf_methods[i].name; i++) {

        if ((ngx_http_vidgen_conf_methods[i].parts & block->part)
            && ngx_http_vidgen_conf_is(&value[1],
                                       ngx_http_vidgen_conf_methods[i].name))
        {
            block->request->method = value[1];
            return NGX_CONF_OK;
        }
    }

    return ngx_http_vidgen_conf_message(cf, "may not be \"%V\" here",
                                        &value[1]);
}


static ngx_uint_t
ngx_http_vidgen_conf_is(ngx_str_t *text, const char *word)
{
    return ngx_strlen(word) == text->len
           && ngx_strncmp(text->data, word, text->len) == 0;
}


char *
ngx_http_vidgen_conf_header(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                *value;
    ngx_uint_t                i;
    ngx_array_t              *headers;
    ngx_vidgen_field_t       *field;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);
    value = cf->args->elts;

    headers = block->request ? &block->request->headers
                             : &block->provider->headers;

    if (!ngx_vidgen_text_is_token(&value[1])) {
        return ngx_http_vidgen_conf_message(cf, "has an invalid name \"%V\"",
                                            &value[1]);
    }

    for (i = 0; ngx_http_vidgen_conf_own_headers[i]; i++) {
        if (ngx_strcasecmp(value[1].data,
                           (u_char *) ngx_http_vidgen_conf_own_headers[i])
            == 0)
        {
            return ngx_http_vidgen_conf_message(cf,
                       "may not set \"%V\", which the module itself sends",
                       &value[1]);
        }
    }

    if (ngx_http_vidgen_conf_has_field(headers, &value[1])) {
        return ngx_http_vidgen_conf_message(cf, "is duplicate: \"%V\"",
                                            &value[1]);
    }

    if (ngx_vidgen_text_has_control(&value[2])) {
        return "has control characters";
    }

    field = ngx_http_vidgen_conf_push(cf, headers,
                                      sizeof(ngx_vidgen_field_t));
    if (field == NULL) {
        return NGX_CONF_ERROR;
    }

    field->name = value[1];

    return ngx_http_vidgen_conf_template(cf, &value[2],
                                         NGX_VIDGEN_TEMPLATE_PLAIN, 0,
                                         &field->value);
}


static ngx_uint_t
ngx_http_vidgen_conf_has_field(ngx_array_t *fields, ngx_str_t *name)
{
    ngx_uint_t           i;
    ngx_vidgen_field_t  *field;

    field = fields->elts;

    for (i = 0; i < fields->nelts; i++) {
        if (ngx_strcasecmp(field[i].name.data, name->data) == 0) {
            return 1;
        }
    }

    return 0;
}


char *
ngx_http_vidgen_conf_query(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t           *value;
    ngx_vidgen_field_t  *field;

    value = cf->args->elts;

    if (value[1].len == 0 || ngx_vidgen_text_has_control(&value[1])
        || ngx_vidgen_text_has_control(&value[2]))
    {
        return "has an empty name or control characters";
    }

    field = ngx_http_vidgen_conf_push(cf,
                               &ngx_http_vidgen_conf_block(cf)->request->query,
                               sizeof(ngx_vidgen_field_t));
    if (field == NULL) {
        return NGX_CONF_ERROR;
    }

    field->name = value[1];

    return ngx_http_vidgen_conf_template(cf, &value[2],
                                         NGX_VIDGEN_TEMPLATE_PLAIN, 1,
                                         &field->value);
}


char *
ngx_http_vidgen_conf_body(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                     *rv;
    ngx_str_t                *value;
    ngx_uint_t                i, t;
    ngx_vidgen_member_t      *member;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);
    value = cf->args->elts;

    member = ngx_http_vidgen_conf_push(cf, &block->request->body,
                                       sizeof(ngx_vidgen_member_t));
    if (member == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 3; i < cf->args->nelts; i++) {

        if (ngx_http_vidgen_conf_is(&value[i], "when_set")) {
            member->when_set = 1;
            continue;
        }

        for (t = 0; ngx_http_vidgen_conf_types[t].name; t++) {
            if (ngx_http_vidgen_conf_is(&value[i],
                                        ngx_http_vidgen_conf_types[t].name))
            {
                member->type = ngx_http_vidgen_conf_types[t].type;
                break;
            }
        }

        if (ngx_http_vidgen_conf_types[t].name == NULL) {
            return ngx_http_vidgen_conf_message(cf,
                       "has an unknown type \"%V\"", &value[i]);
        }
    }

    if (block->body_line == 0) {
        block->body_line = cf->conf_file->line;
    }

    rv = ngx_http_vidgen_conf_pointer(cf, &value[1], &member->pointer);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    rv = ngx_http_vidgen_conf_template(cf, &value[2],
                                       NGX_VIDGEN_TEMPLATE_PLAIN, 0,
                                       &member->value);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_vidgen_conf_body_fits(cf, block, member);
}


/*
 * Puts what is known of a member into a body for trial: paths that contradict
 * each other, and constants that are not of their type, are found at once.
 */

static char *
ngx_http_vidgen_conf_body_fits(ngx_conf_t *cf, ngx_http_vidgen_block_t *block,
    ngx_vidgen_member_t *member)
{
    ngx_int_t                rc;
    ngx_str_t                text;
    ngx_vidgen_json_type_e   type;

    if (block->body == NULL) {
        block->body = ngx_vidgen_json_object(cf->pool);
        if (block->body == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    type = member->type;
    text = member->value.text;

    if (!member->value.constant) {

        /* JSON may be an object that others go on to fill */

        if (type == NGX_VIDGEN_JSON_RAW) {
            ngx_str_set(&text, "{}");

        } else {
            type = NGX_VIDGEN_JSON_STRING;
            ngx_str_set(&text, "");
        }
    }

    rc = ngx_vidgen_json_put(block->body, &member->pointer, type, &text);

    if (rc == NGX_DECLINED) {
        return "has a value that is not of its type, or a path that does not "
               "go with those before it";
    }

    return rc == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
ngx_http_vidgen_conf_then(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                     *rv;
    ngx_str_t                *value, code;
    ngx_uint_t                i;
    ngx_vidgen_poll_t        *poll;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);
    value = cf->args->elts;
    poll = block->provider->poll;

    if (poll->then) {
        return "is duplicate";
    }

    poll->then = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_request_t));
    if (poll->then == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_str_set(&poll->then->method, "GET");

    for (i = 2; i < cf->args->nelts; i++) {

        if (!ngx_http_vidgen_conf_knob(&value[i], "failed=", &code)
            || code.len == 0)
        {
            return ngx_http_vidgen_conf_message(cf,
                       "has an invalid parameter \"%V\"", &value[i]);
        }

        rv = ngx_http_vidgen_conf_add_code(cf, &poll->then_failed, &code);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    block->then = 1;

    rv = ngx_http_vidgen_conf_template(cf, &value[1], NGX_VIDGEN_TEMPLATE_URL,
                                       1, &poll->then->url);

    block->then = 0;

    return rv;
}


char *
ngx_http_vidgen_conf_idempotent(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);

    block->provider->submit->idempotent = 1;
    block->idempotent_line = cf->conf_file->line;

    return NGX_CONF_OK;
}
