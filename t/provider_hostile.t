#!/usr/bin/perl

# What a client or a provider says cannot change where a request goes: not its
# host, not how deep its path is, not its headers.  What cannot stand there is
# refused, and costs nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More tests => 57;

use VidgenTest::Books qw(balance customer wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $elsewhere = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo },
    env  => {
        BASE_URL => $provider->url . '/base',
        API_KEY  => 'the-api-key',
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database  "%%DB%%";
    vidgen_monitor   poll=100ms interval=1h;

    vidgen_provider segment {
        base     env:BASE_URL;
        api_key  env:API_KEY;
        header   X-Key $vidgen_api_key;

        submit {
            url     $vidgen_base/a/$vidgen_model/b;
            query   prompt $http_x_query;
            body    /prompt $vidgen_prompt;
            job_id  /id;
        }
        poll {
            url        $vidgen_base/jobs/$vidgen_provider_job_id/state;
            status     /status;
            video_url  /url;
        }
    }

    vidgen_provider path {
        base     env:BASE_URL;
        api_key  env:API_KEY;
        header   X-Key $vidgen_api_key;

        submit {
            url     $vidgen_base/$vidgen_model_path;
            job_id  /id;
            keep    state /state;
        }
        poll {
            url        $vidgen_kept_state;
            status     /status;
            video_url  /url;
        }
    }

    vidgen_provider header {
        base  env:BASE_URL;
        submit {
            url     $vidgen_base/h;
            header  X-Prompt "[$vidgen_prompt]";
            job_id  /id;
        }
        poll {
            url        $vidgen_base/h/$vidgen_provider_job_id_path/x;
            status     /status;
            video_url  /url;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /segment { vidgen_generate segment; }
        location = /path    { vidgen_generate path; }
        location = /header  { vidgen_generate header; }
    }
}
EOT

my $user = customer($pg, 1000);
my $number = 0;

# a model in one segment

for my $case (
    ['a/b', 'a%2Fb'], ['../../x', '..%2F..%2Fx'], ['/x', '%2Fx'],
    ['a?b=c', 'a%3Fb%3Dc'], ['a#b', 'a%23b'], ['%2e%2e', '%252e%252e'],
    ['a b', 'a%20b'], ['a\\b', 'a%5Cb'], ['@host', '%40host'],
    ['http://x/', 'http%3A%2F%2Fx%2F'], ['...', '...'],
    ["\x{e9}\x{1f600}", '%C3%A9%F0%9F%98%80'], ['a;b&c', 'a%3Bb%26c'],
    ['..', undef], ['.', undef],
) {
    my ($model, $segment) = @$case;
    is(asked('segment', { model_id => $model }),
        defined $segment ? "POST /base/a/$segment/b" : 400,
        "the model \"" . printable($model) . '" in a segment');
}

# a model that may have several

for my $case (
    ['a/b/c', 'a/b/c'], ['a/../b', undef], ['../x', undef], ['a/..', undef],
    ['/a', undef], ['a//b', undef], ['a/', undef], ['a/./b', undef],
    ['..%2f', '..%252f'], ['a/b?c', 'a/b%3Fc'], ['a/@b', 'a/%40b'],
    ['//host/x', undef],
) {
    my ($model, $path) = @$case;
    is(asked('path', { model_id => $model }),
        defined $path ? "POST /base/$path" : 400,
        "the model \"" . printable($model) . '" as a path');
}

# an argument, and a URL that is too long

is(asked('segment', {}, { 'X-Query' => 'a&b=c#d ?/%' }),
    'POST /base/a/m/b?prompt=a%26b%3Dc%23d%20%3F%2F%25', 'an argument');
is(asked('segment', {}, { 'X-Query' => '%' x 600 }),
    'POST /base/a/m/b?prompt=' . '%25' x 600, 'a long one');
is(asked('segment', {}, { 'X-Query' => '%' x 680 }), 400, 'one too long');

# a header

is(asked('header', { prompt => "a\tb" }), 400, 'a tab in a header');
is(asked('header', { prompt => "a\r\nX-Key: b" }), 400, 'a line in a header');
is(asked('header', { prompt => "a\x7f" }), 400, 'a DEL in a header');
is(asked('header', { prompt => "\x{e9}: \"b\"" }), 'POST /base/h',
    'what a header can have');
is((grep { $_->{method} eq 'POST' } @{ $provider->requests })[-1]
    {headers}{'x-prompt'}, "[\xc3\xa9: \"b\"]", 'is in it');
is(asked('segment', { prompt => "a\r\nb" }), 'POST /base/a/m/b',
    'a line in the body');

is($pg->value('SELECT count(*) FROM video_jobs'),
    scalar(grep { $_->{method} eq 'POST' } @{ $provider->requests }),
    'what was refused made no job');
is_deeply([wrong_books($pg)], [], 'and cost nothing');

# the provider's id in a URL

is(polled('segment', { id => '../../x?y' }),
    'GET /base/jobs/..%2F..%2Fx%3Fy/state', 'an id in a segment');
is(polled('header', { id => 'a/b' }), 'GET /base/h/a/b/x', 'as a path');
for my $id ('..', 'a/../b', '/a') {
    is(polled($id eq '..' ? 'segment' : 'header', { id => $id }), 'not',
        "the id \"$id\"");
}

# a URL that a provider gave

my ($here, $there) = map { $_->url } $provider, $elsewhere;
my $host = $provider->host;
is(polled('path', { state => "$here/state/1?a=b" }), 'GET /state/1?a=b',
    'a URL of the provider');
for my $url ("$there/state", "http://user\@$host/state", "http://$host\@"
        . $elsewhere->host . '/', "${here}0/state", "https://$host/state",
    "//$host/state", '/state', "$here/a\\b",
    "http://localhost:" . $provider->port . '/state')
{
    is(polled('path', { state => $url }), 'not', "the URL \""
        . $url =~ s/$host/HOST/r . '"');
}

# a redirect

my $answer = order('path', {}, body => '{"id":"r-1","state":"' . $here
    . '/moved"}');
$provider->on('^GET /moved$', status => 302,
    headers => { Location => "$there/moved" }, body => '{}');
due($answer->{json}{job_id});
ok(wait_for { grep { ($_->{uri} // '') eq '/moved' } @{ $provider->requests } },
    'a poll that is redirected');
$answer = order('segment', {}, status => 307,
    headers => { Location => "$there/moved" }, body => '{}');
is($answer->{status}, 502, 'a submit that is redirected');
is_deeply($elsewhere->requests, [], 'nobody else was asked');

is(balance($pg, $user), 1000 - $pg->value("SELECT sum(credits_used)
    FROM video_jobs WHERE status <> 'failed'"), 'the balance');


# "METHOD URI" of the request to the provider, or the status without one.
sub asked {
    my ($name, $input, $headers) = @_;
    my $before = @{ $provider->requests };
    my $answer = order($name, $input, headers_in => $headers,
        body => '{"id":"x-' . ++$number . '"}');
    my @new = grep { $_->{method} eq 'POST' }
        splice @{ $provider->requests }, $before;
    return $answer->{status} unless @new;
    return "$new[0]{method} $new[0]{uri}";
}

# The same for the first poll of a generation that was answered with this.
sub polled {
    my ($name, $answer) = @_;

    my $before = @{ $provider->requests };
    my $job = order($name, {}, body => JSON::PP->new->encode(
        { id => 'p-' . ++$number, %$answer }))->{json}{job_id};
    due($job);
    my $result = wait_for {
        return 'not' if $nginx->error_log
            =~ /vidgen: job "$job" cannot be polled/;
        my ($get) = grep { $_->{method} eq 'GET' && $_->{uri} !~ m{/x-\d} }
            splice @{ $provider->requests }, $before;
        return $get && "$get->{method} $get->{uri}";
    };
    rest();
    return $result;
}

# No job is polled any more: what is being asked now sets a time itself.
sub rest {
    wait_for {
        $pg->query("UPDATE vidgen.attempts SET due = 'infinity'
            WHERE poll_lease IS NULL");
        !$pg->value("SELECT count(*) FROM vidgen.attempts
            WHERE state = 'accepted' AND due IS DISTINCT FROM 'infinity'");
    } or die 'it does not rest';
}

sub due {
    my ($job) = @_;
    $pg->query("UPDATE vidgen.attempts SET due = now()
        WHERE job_id = '$job'");
}

# A generation; %answer is the provider's.
sub order {
    my ($name, $input, %answer) = @_;

    my $headers = delete $answer{headers_in};
    my %input = (model_id => 'm', prompt => 'p', %$input);
    my $id = $input{model_id} =~ s/'/''/gr;
    utf8::encode($id);
    $pg->query("INSERT INTO models (id, credits_per_generation)
        VALUES ('$id', 2) ON CONFLICT DO NOTHING");
    $provider->on('^POST ', %answer);
    return post($nginx->url("/$name"), { user_id => $user, %input }, $headers);
}

sub printable { return $_[0] =~ s/([^ -~])/sprintf '\\x{%x}', ord $1/ger }
