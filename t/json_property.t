#!/usr/bin/perl

# Random definitions and random values: what a definition builds is, read by
# another implementation, what went in; and what is read from random JSON, and
# from what the module built itself, is what stood there.
#
# VIDGEN_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use VidgenTest::Books qw(customer);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $seed = $ENV{VIDGEN_SEED} // int rand 2**31;
srand $seed;

my $definitions = 12;
my $rounds = 3;

plan tests => $definitions * $rounds * 7 + 1;
diag("VIDGEN_SEED=$seed");

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my $models = 0;
my @words = (['queued', 'Wait=ing'], ['processing', "d\x{e9}j\x{e0}"],
    ['completed', 'OK'], ['failed', "\x{2717} no"]);

my @kinds = map { kind($_) } 0 .. $definitions - 1;
my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => {
        DB          => $pg->edge_conninfo,
        DEFINITIONS => join('', map { utf8($_->{text}) } @kinds),
    },
    env  => {
        BASE_URL    => $provider->url,
        HOOK_SECRET => $provider->secret,
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database  "%%DB%%";
    vidgen_monitor   off;

    %%DEFINITIONS%%

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/video-webhook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /video-webhook  { vidgen_webhook; }
    }
}
EOT

my $user = customer($pg, 1000);
for my $kind (@kinds) {
    run($kind, $_) for 1 .. $rounds;
}

is(scalar @{ $provider->requests }, 2 * $definitions * $rounds,
    'each was asked twice');


# One generation and its webhook, and the generation again with an answer that
# has what was built the first time.
sub run {
    my ($kind, $round) = @_;

    my $name = "$kind->{name}, $round";
    my $in = input();
    my %text = map { $_ => text_of($_, $in) } @{ $kind->{members} };
    my $wanted = {};
    put($wanted, $_->{path}, $text{$_}{data}) for @{ $kind->{members} };

    $pg->query(utf8('INSERT INTO models (id, credits_per_generation) VALUES ('
        . quote($in->{model}) . ', 1)'));

    # build

    my $id = line(1, 40);
    my ($job, $sent) = generate($kind, $in, answer($kind, $id,
        json_text($wanted)));
    is(dump_of($json->decode($sent->{body})), dump_of($wanted),
        "$name: the body is what went in");
    is_deeply(place($sent), [utf8($in->{model}), utf8($in->{lines}[0]),
        utf8($in->{lines}[1])], "$name: and so are URL and header");

    # read what another implementation wrote, and what the module wrote

    my $keeps = kept_of($kind, \%text);
    is_deeply(read_answer($job), [$id, $keeps], "$name: an answer is read");
    my ($other) = generate($kind, $in, answer($kind, $id . 'x',
        $sent->{body}));
    is_deeply(read_answer($other), [$id . 'x', $keeps],
        "$name: and one with what was built");

    # a webhook

    my ($status, $word) = @{ $words[rand @words] };
    my ($url, $error) = (line(1, 300), text(1, 200));
    my $doc = noise({}, 3);
    put($doc, $_->{path}, $_->{value}) for
        { path => $kind->{hook}{job_id}, value => $id },
        { path => $kind->{hook}{status}, value => $word },
        { path => $kind->{hook}{video_url}, value => $url },
        absent($kind->{hook}{error_before}),
        { path => $kind->{hook}{error}, value => $error };

    my ($headers, $body) = $provider->signed_webhook(body => json_text($doc));
    my $answer = post($nginx->url("/video-webhook?provider=$kind->{name}"),
        $body, $headers);
    is($answer->{status}, 200, "$name: a webhook") or diag($answer->{body});

    my ($is, $is_url, $is_error) = map { $json->decode($_) } @{ $pg->query(
        "SELECT to_json(status), coalesce(to_json(video_url), 'null'),"
        . " coalesce(to_json(error_message), 'null')"
        . " FROM video_jobs WHERE id = '$job'")->[0] };
    is($is, $status, "$name: its status");

    $error =~ s/[\x00-\x1f\x7f]/ /g;
    is_deeply([$is_url, $is_error], [
        $status eq 'completed' ? $url : undef,
        $status eq 'failed' ? $error : undef], "$name: and what comes with it");
}


# Asks for a generation; the job, and what the provider was sent.
sub generate {
    my ($kind, $in, $body) = @_;

    $provider->next(body => $body);
    my %headers = map { ("X-Line-$_" => utf8($in->{lines}[$_])) } 0 .. 2;
    @headers{qw(X-Number X-Integer X-Boolean X-Json)}
        = (@$in{qw(number integer boolean)}, $in->{json});
    my $answer = post($nginx->url('/generate-video'), $json->encode({
        user_id => $user, model_id => $in->{model}, prompt => $in->{prompt},
        duration => $in->{duration}, aspect_ratio => $in->{ratio},
        provider => $kind->{name} }), \%headers);
    diag("$answer->{status} $answer->{body}") if $answer->{status} != 200;
    return ($answer->{json}{job_id}, $provider->requests->[-1]);
}

# What stands in the URL's path, in its query and in the header.
sub place {
    my ($request) = @_;
    my ($model, $argument) = $request->{uri} =~ m{^/v1/([^/?]+)/make\?q=(.*)$};
    s/%([0-9A-F]{2})/chr hex $1/ge for $model, $argument;
    return [$model, $argument, $request->{headers}{'x-out'}];
}

sub read_answer {
    my ($job) = @_;
    my ($id, $kept) = map { $json->decode($_) } @{ $pg->query(
        "SELECT coalesce(to_json(provider_job_id), 'null'),"
        . " coalesce(kept, '{}')"
        . " FROM vidgen.attempts WHERE job_id = '$job'")->[0] };
    $kept->{$_} = $kept->{$_} + 0 for grep { /^n/ } keys %$kept;
    return [$id, $kept];
}


# ---- definitions -----------------------------------------------------------

# A random definition: name, text, members of the body (path, type, value),
# and where an answer and a webhook have what is read.
sub kind {
    my ($n) = @_;

    my @members = map { { path => $_, member() } } tree(3);
    my %kind = (name => "d$n", members => \@members, id => path());

    # names begin with n where numbers are kept
    my $k = 0;
    $_->{keep} = ($_->{type} eq 'number' ? 'n' : 's') . $k++
        for grep { $_->{type} ne 'json' } @members;

    my @top = distinct(5);
    $kind{hook} = { map { $_ => [shift @top, @{ path() }] }
        qw(job_id status video_url error error_before) };

    my $hook = { map { $_ => pointer($kind{hook}{$_}) }
        keys %{ $kind{hook} } };
    my @body = map { join ' ', 'body', pointer($_->{path}),
        quoted($_->{value}), $_->{type} } @members;
    my @keep = map { "keep $_->{keep} " . pointer(['echo', @{ $_->{path} }]) }
        grep { $_->{keep} } @members;
    my $map = join ' ', map { quoted("$_->[1]=$_->[0]") } @words;

    $kind{text} = <<EOT;
    vidgen_provider d$n {
        base env:BASE_URL;
        submit {
            url \$vidgen_base/v1/\$vidgen_model/make;
            query q \$http_x_line_0;
            header X-Out \$http_x_line_1;
            ${\ join "\n            ", map { "$_;" } @body, @keep }
            job_id /nothing ${\ pointer(['id', @{ $kind{id} }]) };
        }
        webhook {
            signature hmac-sha256 header=X-Signature;
            secret env:HOOK_SECRET;
            job_id $hook->{job_id};
            status $hook->{status} $map;
            video_url $hook->{video_url};
            error $hook->{error_before} $hook->{error};
        }
    }
EOT
    return \%kind;
}

# Type and value of a member.
sub member {
    my @choices = (
        [string => '$vidgen_prompt'], [string => '$vidgen_model'],
        [string => '$vidgen_duration'], [string => '${vidgen_aspect_ratio}'],
        [string => '$http_x_line_2'],
        [string => 'a ${vidgen_duration}-$http_x_line_0$vidgen_model'],
        [string => line(0, 20) =~ tr/$//dr],
        [number => '$http_x_number'], [number => '$vidgen_duration'],
        [integer => '$http_x_integer'], [integer => '$vidgen_duration'],
        [boolean => '$http_x_boolean'], [boolean => 'true'],
        [json => '$http_x_json'], [json => '[1,{"a":null}]'],
    );
    my ($type, $value) = @{ $choices[rand @choices] };
    return (type => $type, value => $value);
}

# The paths of the leaves of a random tree: an object of objects and arrays.
sub tree {
    my ($depth, $inner) = @_;

    return [] if $inner && ($depth == 0 || rand() < 0.4);
    my $n = 1 + int rand 3;
    my @names = $inner && rand() < 0.3 ? 0 .. $n - 1 : distinct($n);
    return map { my $name = $_;
        map { [$name, @$_] } tree($depth - 1, 1) } @names;
}

# A path of up to three names.
sub path { return [distinct(1 + int rand 3)] }

# Names for members: anything but what a path takes for an array's index.
sub distinct {
    my ($n) = @_;
    my %names;
    while (keys %names < $n) {
        my $name = rand() < 0.5 ? line(0, 6) : chr(97 + rand 26) . int rand 99;
        $names{$name} = 1 unless $name =~ /^(?:0|-|nothing)$/;
    }
    return sort keys %names;
}

sub pointer {
    my ($path) = @_;
    return quoted(join '', map { '/' . s/~/~0/gr =~ s{/}{~1}gr } @$path);
}

sub quoted {
    my ($text) = @_;
    return '"' . $text =~ s/(["\\])/\\$1/gr . '"';
}


# ---- values ----------------------------------------------------------------

# What a client sends.
sub input {
    my $number = join '', rand() < 0.3 ? '-' : '', int rand 1e6,
        rand() < 0.5 ? '.' . int rand 1e6 : '',
        rand() < 0.5 ? 'e' . (int(rand 30) - 20) : '';
    return {
        prompt   => text(1, 300),
        model    => line(1, 30) . '-' . ++$models,
        duration => 1 + int rand 3600,
        ratio    => 1 + int(rand 99) . ':' . (1 + int rand 99),
        lines    => [map { line(1, 60) } 0 .. 2],
        number   => $number =~ s/^(-?)0+(?=\d)/$1/r,
        integer  => join('', rand() < 0.3 ? '-' : '', 1 + int rand 9,
            map { int rand 10 } 1 .. rand 16),
        boolean  => rand() < 0.5 ? 'true' : 'false',
        json     => JSON::PP->new->ascii->encode(noise({}, 2)),
    };
}

# What a member becomes: { text, data }.
sub text_of {
    my ($member, $in) = @_;

    my %value = (
        vidgen_prompt => $in->{prompt}, vidgen_model => $in->{model},
        vidgen_duration => $in->{duration},
        vidgen_aspect_ratio => $in->{ratio}, http_x_number => $in->{number},
        http_x_integer => $in->{integer}, http_x_boolean => $in->{boolean},
        http_x_json => $in->{json},
        map { ("http_x_line_$_" => $in->{lines}[$_]) } 0 .. 2,
    );
    my $text = $member->{value} =~ s/\$(?:\{(\w+)\}|(\w+))/
        $value{ $1 \/\/ $2 }/gerx;

    return { text => $text, data => $text } if $member->{type} eq 'string';
    return { text => $text, data => JSON::PP->new->allow_nonref
        ->decode($text) };
}

# What is kept of the members: not what is empty or has control characters.
sub kept_of {
    my ($kind, $text) = @_;
    return { map { ($_->{keep} => $_->{type} eq 'number'
            ? $text->{$_}{text} + 0 : $text->{$_}{text}) }
        grep { my $value = $text->{$_}{text};
            $_->{keep} && $value ne '' && $value !~ /[\x00-\x1f\x7f]/ }
        @{ $kind->{members} } };
}

# The provider's answer, which has the id and, as it is, the text of "echo".
sub answer {
    my ($kind, $id, $echo) = @_;

    my $doc = { noise => noise([], 2), nothing => undef, id => {} };
    put($doc, ['id', @{ $kind->{id} }], $id);
    my $text = json_text($doc);
    $text =~ s/^\s*\{/{"echo":$echo,/;
    return $text;
}

# What counts as absent.
sub absent {
    my ($path) = @_;
    return if rand() < 0.3;
    return { path => $path, value => (undef, {}, [1], '')[rand 4] };
}

# Fills an object or a list with whatever.
sub noise {
    my ($in, $depth) = @_;

    for (1 .. rand 4) {
        my $value = (undef, text(0, 20), 0 + sprintf('%.6g', rand 1e9),
            -int rand 1e9, JSON::PP::true, JSON::PP::false)[rand 6];
        $value = noise(rand() < 0.5 ? {} : [], $depth - 1)
            if $depth && rand() < 0.4;
        ref $in eq 'HASH' ? $in->{ line(0, 8) } = $value : push @$in, $value;
    }
    return $in;
}

# Puts a value into nested objects and lists, over what is there.
sub put {
    my ($in, $path, $value) = @_;

    my @path = @$path;
    my $last = pop @path;

    for my $i (0 .. $#path) {
        my $next = $i < $#path ? $path[$i + 1] : $last;
        my $slot = ref $in eq 'ARRAY' ? \$in->[$path[$i]] : \$in->{$path[$i]};
        $$slot = $next =~ /^0$/ ? [] : {} unless ref $$slot eq 'HASH'
            || ref $$slot eq 'ARRAY' && $next =~ /^\d$/;
        $in = $$slot;
    }
    ref $in eq 'ARRAY' ? $in->[$last] = $value : $in->{$last} = $value;
}

# A text without control characters, of min to max characters, that does not
# begin or end with a space.
sub line {
    my ($min, $max) = @_;
    my $text = join '', map { character() } 1 .. $min + rand $max - $min;
    $text =~ s/[\x00-\x1f\x7f]/!/g;
    $text =~ s/^ | $/_/g;
    return $text;
}

# The same with tabs, ends of lines and DEL.
sub text {
    my ($min, $max) = @_;
    return join '', map { character() } 1 .. $min + rand $max - $min;
}

sub character {
    my @ranges = ([0x20, 0x7e], [0x20, 0x7e], [0x22, 0x22], [0x5c, 0x5c],
        [0x2f, 0x2f], [0x7e, 0x7f], [0x09, 0x0a], [0x0d, 0x0d],
        [0x80, 0x24f], [0x2028, 0x2029], [0x4e00, 0x9fff], [0xe000, 0xf8ff],
        [0xfffd, 0xfffd], [0x1f300, 0x1f6ff], [0x10fffd, 0x10fffd]);
    my ($from, $to) = @{ $ranges[rand @ranges] };
    return chr $from + int rand $to - $from + 1;
}


# ---- texts -----------------------------------------------------------------

sub utf8 { my ($text) = @_; utf8::encode($text); return $text }
sub quote { return "'" . $_[0] =~ s/'/''/gr . "'" }

# JSON in one of the ways it can be written, as bytes.
sub json_text {
    my ($data) = @_;
    my $writer = JSON::PP->new->allow_nonref;
    $writer = $writer->ascii if rand() < 0.5;
    $writer = $writer->pretty if rand() < 0.3;
    $writer = $writer->escape_slash if rand() < 0.3;
    return utf8($writer->encode($data));
}

# In one way, numbers by their value.
sub dump_of { return $json->encode($_[0]) }
