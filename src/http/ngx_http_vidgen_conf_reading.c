#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_conf_block.h"


static char *ngx_http_vidgen_conf_word(ngx_conf_t *cf, ngx_str_t *text,
    u_char *equals);


char *
ngx_http_vidgen_conf_path(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                     *rv;
    ngx_str_t                *value;
    ngx_uint_t                i;
    ngx_array_t              *pointers;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);
    value = cf->args->elts;
    pointers = (ngx_array_t *) ((char *) block->reading + cmd->offset);

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_http_vidgen_conf_add_pointer(cf, pointers, &value[i]);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


/* paths, words of the map, or what it is without being told */

char *
ngx_http_vidgen_conf_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                     *rv;
    u_char                   *equals;
    ngx_str_t                *value;
    ngx_uint_t                i;
    ngx_vidgen_status_e       status;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);
    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        equals = ngx_strlchr(value[i].data, value[i].data + value[i].len,
                             '=');

        if (value[i].len && value[i].data[0] == '/') {
            rv = ngx_http_vidgen_conf_add_pointer(cf, &block->reading->status,
                                                  &value[i]);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

            continue;
        }

        if (equals) {
            rv = ngx_http_vidgen_conf_word(cf, &value[i], equals);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

            continue;
        }

        status = ngx_vidgen_status_find(&value[i]);

        if (status == NGX_VIDGEN_STATUS_NONE) {
            return ngx_http_vidgen_conf_message(cf,
                       "has \"%V\", which is neither a path nor a word of "
                       "the map nor a status", &value[i]);
        }

        if (block->part != NGX_HTTP_VIDGEN_SUBMIT_CONF) {
            return "may name a fixed status in \"submit\" only";
        }

        if (block->reading->fixed_status) {
            return "names two fixed statuses";
        }

        block->reading->fixed_status = status;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_conf_word(ngx_conf_t *cf, ngx_str_t *text, u_char *equals)
{
    u_char               *last, *p;
    ngx_str_t             name, value;
    ngx_uint_t            i;
    ngx_array_t          *words;
    ngx_vidgen_word_t    *word;
    ngx_vidgen_status_e   status;

    last = text->data + text->len;

    /* the last one counts, so that a word may have some itself */

    for (p = equals; p < last; p++) {
        if (*p == '=') {
            equals = p;
        }
    }

    name.data = text->data;
    name.len = equals - text->data;

    value.data = equals + 1;
    value.len = last - value.data;

    status = ngx_vidgen_status_find(&value);

    if (name.len == 0 || status == NGX_VIDGEN_STATUS_NONE) {
        return ngx_http_vidgen_conf_message(cf,
                   "has \"%V\", which is not word=status with one of "
                   "queued, processing, completed and failed", text);
    }

    words = &ngx_http_vidgen_conf_block(cf)->reading->words;
    word = words->elts;

    for (i = 0; i < words->nelts; i++) {
        if (ngx_vidgen_text_same(&word[i].word, &name)) {
            return ngx_http_vidgen_conf_message(cf, "maps \"%V\" twice",
                                                &name);
        }
    }

    word = ngx_http_vidgen_conf_push(cf, words, sizeof(ngx_vidgen_word_t));
    if (word == NULL) {
        return NGX_CONF_ERROR;
    }

    word->word = name;
    word->status = status;

    return NGX_CONF_OK;
}


char *
ngx_http_vidgen_conf_condition(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    char                    *rv;
    ngx_str_t               *value, *expected;
    ngx_uint_t               i;
    ngx_array_t             *list;
    ngx_vidgen_condition_t  *condition;

    value = cf->args->elts;
    list = ngx_http_vidgen_conf_block(cf)->lists[cmd->offset];

    condition = ngx_http_vidgen_conf_push(cf, list,
                                          sizeof(ngx_vidgen_condition_t));
    if (condition == NULL) {
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_vidgen_conf_pointer(cf, &value[1], &condition->pointer);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    for (i = 2; i < cf->args->nelts; i++) {

        expected = ngx_http_vidgen_conf_push(cf, &condition->values,
                                             sizeof(ngx_str_t));
        if (expected == NULL) {
            return NGX_CONF_ERROR;
        }

        *expected = value[i];
    }

    return NGX_CONF_OK;
}


char *
ngx_http_vidgen_conf_keep(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    size_t              i;
    u_char              ch;
    ngx_str_t          *value;
    ngx_uint_t          n;
    ngx_array_t        *list;
    ngx_vidgen_keep_t  *keep;

    value = cf->args->elts;
    list = ngx_http_vidgen_conf_block(cf)->lists[cmd->offset];

    for (i = 0; i < value[1].len; i++) {
        ch = value[1].data[i];

        if ((ch < 'a' || ch > 'z') && (ch < '0' || ch > '9') && ch != '_') {
            break;
        }
    }

    if (i == 0 || i < value[1].len) {
        return ngx_http_vidgen_conf_message(cf,
                   "has a name with other characters than \"a\" to \"z\", "
                   "digits and \"_\": \"%V\"", &value[1]);
    }

    keep = list->elts;

    for (n = 0; n < list->nelts; n++) {
        if (ngx_strcmp(keep[n].name.data, value[1].data) == 0) {
            return ngx_http_vidgen_conf_message(cf, "is duplicate: \"%V\"",
                                                &value[1]);
        }
    }

    keep = ngx_http_vidgen_conf_push(cf, list, sizeof(ngx_vidgen_keep_t));
    if (keep == NULL) {
        return NGX_CONF_ERROR;
    }

    keep->name = value[1];

    return ngx_http_vidgen_conf_pointer(cf, &value[2], &keep->pointer);
}


char *
ngx_http_vidgen_conf_codes(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char         *rv;
    ngx_str_t    *value;
    ngx_uint_t    i;
    ngx_array_t  *list;

    value = cf->args->elts;
    list = ngx_http_vidgen_conf_block(cf)->lists[cmd->offset];

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_http_vidgen_conf_add_code(cf, list, &value[i]);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


char *
ngx_http_vidgen_conf_estimated_time(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    time_t                t;
    ngx_str_t            *value;
    ngx_vidgen_submit_t  *submit;

    value = cf->args->elts;
    submit = ngx_http_vidgen_conf_block(cf)->provider->submit;

    if (submit->estimated_time) {
        return "is duplicate";
    }

    t = ngx_parse_time(&value[1], 1);

    if (t == (time_t) NGX_ERROR || t < 1 || t > NGX_MAX_INT32_VALUE) {
        return ngx_http_vidgen_conf_message(cf, "has an invalid time \"%V\"",
                                            &value[1]);
    }

    submit->estimated_time = t;

    return NGX_CONF_OK;
}


char *
ngx_http_vidgen_conf_max_jobs(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_int_t             n;
    ngx_str_t            *value;
    ngx_vidgen_submit_t  *submit;

    value = cf->args->elts;
    submit = ngx_http_vidgen_conf_block(cf)->provider->submit;

    if (submit->max_jobs) {
        return "is duplicate";
    }

    n = ngx_atoi(value[1].data, value[1].len);

    if (n < 1 || n > NGX_MAX_INT32_VALUE) {
        return ngx_http_vidgen_conf_message(cf,
                   "has an invalid number \"%V\"", &value[1]);
    }

    submit->max_jobs = n;

    return NGX_CONF_OK;
}
